"""Statuses and models on a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TypeVar

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from pydantic import BaseModel

from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import Envelope
from tunestream.events.keys import encode_key
from tunestream.events.models import CurrentModel
from tunestream.events.registry import type_of
from tunestream.events.training import TrainingJobStatus, TrainingStatusEnum
from tunestream.sdk import ModelSubscriber, StatusSubscriber
from tunestream.streams import reading
from tunestream.streams.admin import apply_topics
from tunestream.streams.atomic import await_readable
from tunestream.streams.broker.client import MissingTopic, make_transactional_producer
from tunestream.streams.tasks.encoding import partition_for

Event = TypeVar("Event")
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
async def settings(kafka_settings: KafkaSettings) -> KafkaSettings:
    await apply_topics(kafka_settings)
    return kafka_settings


def status(run_id: str, sequence: int) -> TrainingJobStatus:
    return TrainingJobStatus(
        run_id=run_id,
        backend="trl",
        status=TrainingStatusEnum.RUNNING,
        job_id="job",
        sequence=sequence,
        time=datetime(2026, 1, 1, tzinfo=UTC),
    )


async def write(
    settings: KafkaSettings, topic: str, *bodies: BaseModel, commit: bool = True, extra: bytes = b""
) -> None:
    """Write as the trainer does, in a transaction and the partition of the run, and await its end."""
    ends: dict[TopicPartition, int] = {}
    producer = make_transactional_producer(settings, settings.topic("trainer"))
    await producer.start()
    await producer.begin_transaction()
    for body in bodies:
        run = encode_key(body.run_id)  # type: ignore[attr-defined]
        value = body.model_dump_json().encode()
        written = await producer.send_and_wait(
            settings.topic(topic),
            value[:-1] + extra + b"}",
            run,
            partition=partition_for(run, settings.partitions),
            headers=Envelope(id="x", type=type_of(body), source="/t").to_headers(),
        )
        ends[written.topic_partition] = written.offset + 1
    await (producer.commit_transaction() if commit else producer.abort_transaction())
    await producer.stop()
    await await_readable(settings, ends)


async def take(events: AsyncIterator[Event], count: int) -> list[Event]:
    taken = []
    async for event in events:
        taken.append(event)
        if len(taken) == count:
            break
    return taken


async def test_from_the_beginning_and_on(settings: KafkaSettings) -> None:
    await write(settings, "training.status", status("a", 0), status("a", 1))
    async with StatusSubscriber("a", from_beginning=True, settings=settings) as statuses:
        assert [event.sequence async for event in statuses.so_far()] == [0, 1]
        await write(settings, "training.status", status("a", 2))
        assert await take(aiter(statuses), 1) == [status("a", 2)]


async def test_from_now(settings: KafkaSettings) -> None:
    await write(settings, "training.status", status("a", 0))
    async with StatusSubscriber(settings=settings) as statuses:
        await write(settings, "training.status", status("a", 1), status("b", 0))
        got = await take(aiter(statuses), 2)
    assert sorted((event.run_id, event.sequence) for event in got) == [("a", 1), ("b", 0)]


async def test_only_the_asked_run(settings: KafkaSettings) -> None:
    await write(settings, "training.status", *(status(f"run-{n}", n) for n in range(20)))
    async with StatusSubscriber("run-7", from_beginning=True, settings=settings) as statuses:
        assert [event.run_id async for event in statuses.so_far()] == ["run-7"]


async def test_aborted_ones_are_never_seen(settings: KafkaSettings) -> None:
    await write(settings, "training.status", status("a", 0), commit=False)
    await write(settings, "training.status", status("a", 1))
    async with StatusSubscriber("a", from_beginning=True, settings=settings) as statuses:
        assert [event.sequence async for event in statuses.so_far()] == [1]


@asynccontextmanager
async def uncommitted(
    settings: KafkaSettings, *statuses: TrainingJobStatus
) -> AsyncIterator[AIOKafkaProducer]:
    """Write statuses in a transaction that is open, as a commit of which nobody has heard."""
    async with make_transactional_producer(settings, settings.topic("other")) as producer:
        await producer.begin_transaction()
        for body in statuses:
            run, headers = encode_key(body.run_id), Envelope(id="x", type=type_of(body), source="/t")
            place = partition_for(run, settings.partitions)
            await producer.send_and_wait(
                settings.topic("training.status"), body.to_json(), run, place, headers=headers.to_headers()
            )
        yield producer


async def test_what_is_being_committed_is_waited_for(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_COMMITTING", 90.0)
    async with (
        StatusSubscriber("a", from_beginning=True, settings=settings) as statuses,
        uncommitted(settings, status("a", 0)) as producer,
    ):
        so_far = asyncio.create_task(take(statuses.so_far(), 1))
        await asyncio.wait({so_far}, timeout=0.5)  # as long as one takes that does not wait
        await producer.commit_transaction()
        assert await so_far == [status("a", 0)]


async def test_a_transaction_that_stays_open_holds_up_no_reader(settings: KafkaSettings) -> None:
    await write(settings, "training.status", status("a", 0))
    async with (
        StatusSubscriber("a", from_beginning=True, settings=settings) as statuses,
        uncommitted(settings, status("a", 1)) as producer,
    ):
        assert [event.sequence async for event in statuses.so_far()] == [0]
        await producer.abort_transaction()


async def test_a_newer_services_field_is_left_out(settings: KafkaSettings) -> None:
    await write(settings, "training.status", status("a", 0), extra=b',"added_later":1')
    async with StatusSubscriber("a", from_beginning=True, settings=settings) as statuses:
        assert [event async for event in statuses.so_far()] == [status("a", 0)]


async def test_models(settings: KafkaSettings) -> None:
    pointer = CurrentModel(run_id="a", version="v1", generation=1)
    async with ModelSubscriber("a", settings=settings) as models:
        reading = asyncio.create_task(take(aiter(models), 1))
        await write(settings, "models", pointer)
        assert await reading == [pointer]


async def test_a_missing_topic_is_named(kafka_settings: KafkaSettings) -> None:
    with pytest.raises(MissingTopic, match="topics apply"):
        async with StatusSubscriber(settings=kafka_settings):
            pass
