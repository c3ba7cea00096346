"""Restores: bounded by progress, never from what is too old, none waiting for another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from structlog.testing import capture_logs

from tests.helpers.counting import (
    CHANGELOG,
    OUTPUT,
    Board,
    example_end,
    numbers,
    plan,
    running,
    send,
    until_answer,
)
from tests.helpers.log import read_until
from tunestream.config.settings import KafkaSettings
from tunestream.streams.admin import apply_topics, diff_topics
from tunestream.streams.broker.administration import administration
from tunestream.streams.broker.client import make_producer, make_transactional_producer
from tunestream.streams.broker.topic_plan import TopicAction
from tunestream.streams.changelog import restoring
from tunestream.streams.changelog.progress import Progress
from tunestream.streams.changelog.restoring import Snapshot, read_changelog
from tunestream.streams.changelog.tombstones import tombstone_seconds
from tunestream.streams.tasks import opening
from tunestream.streams.tasks.encoding import BatchSet

HALF_HOUR = 1800.0
PUTS = 50_500
LIVE = 1_000
FILLER = b"filler"


@pytest_asyncio.fixture(loop_scope="session")
async def kafka(kafka_settings: KafkaSettings) -> KafkaSettings:
    await apply_topics(kafka_settings)
    return kafka_settings


def aged(*ages: float) -> Callable[[str], Progress]:
    """Make progresses that end at these ages, in seconds."""
    left = list(ages)

    class Aged(Progress):
        def __init__(self, topic: str) -> None:
            super().__init__(topic)
            self.end = left.pop(0)

        @property
        def age(self) -> float:
            return self.end

        @property
        def took(self) -> float:
            return self.end

    return Aged


async def put_one(kafka: KafkaSettings) -> None:
    async with make_producer(kafka) as producer:
        await producer.send_and_wait(kafka.topic(CHANGELOG), b"1", b"run", partition=0)


async def test_tombstones_live_half_an_hour(kafka: KafkaSettings) -> None:
    for name in (CHANGELOG, "runs", "training.jobs"):
        assert await tombstone_seconds(kafka, kafka.topic(name)) == HALF_HOUR


async def test_a_transaction_whose_end_is_late_is_waited_for(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that crashed may write its end later than it answers, or never; the state would lack it."""
    monkeypatch.setattr(restoring, "STALL_SECONDS", 2.0)
    await put_one(kafka)
    async with make_transactional_producer(kafka, "late") as writer:
        await writer.begin_transaction()
        await writer.send_and_wait(kafka.topic(CHANGELOG), b"2", b"run", partition=0)
        with pytest.raises(TimeoutError, match=r"2 s after offset 1;.* find-hanging"):
            await read_changelog(kafka, CHANGELOG, 0)
        monkeypatch.setattr(restoring, "STALL_SECONDS", 90.0)
        reading = asyncio.create_task(read_changelog(kafka, CHANGELOG, 0))
        await writer.commit_transaction()
        assert (await reading).values == {b"run": b"2"}


async def test_a_restore_that_took_too_long_is_done_again_and_tombstones_are_kept_longer(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_one(kafka)
    monkeypatch.setattr(restoring, "Progress", aged(1000.0, 1500.0))
    with capture_logs() as logs:
        snapshot = await read_changelog(kafka, CHANGELOG, 0)
    assert snapshot.values == {b"run": b"1"}
    assert {"restore.too_old", "restore.retention_raised"} <= {line["event"] for line in logs}
    assert await tombstone_seconds(kafka, kafka.topic(CHANGELOG)) == 4000.0
    kept = {change.name: change.action for change in await diff_topics(kafka)}
    assert kept[kafka.topic(CHANGELOG)] is TopicAction.KEEP
    await apply_topics(kafka)
    assert await tombstone_seconds(kafka, kafka.topic(CHANGELOG)) == 4000.0


async def test_a_restore_that_is_too_old_twice_is_a_fault_with_words(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_one(kafka)
    monkeypatch.setattr(restoring, "Progress", aged(1000.0, 2500.0))
    with pytest.raises(TimeoutError, match=r"restoring, 1 of 1 records of .*; raise delete.retention.ms"):
        await read_changelog(kafka, CHANGELOG, 0)


async def test_a_restore_that_took_half_of_the_half_hour_counts(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_one(kafka)
    monkeypatch.setattr(restoring, "Progress", aged(899.0))
    assert (await read_changelog(kafka, CHANGELOG, 0)).values == {b"run": b"1"}
    assert await tombstone_seconds(kafka, kafka.topic(CHANGELOG)) == HALF_HOUR


async def test_a_broker_that_gives_nothing_ends_a_restore_with_words(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_error: object) -> None:
            pass

        def assign(self, _places: object) -> None: ...

        def seek(self, _place: object, _offset: int) -> None: ...

        async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
            return dict.fromkeys(places, 0)

        async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
            return dict.fromkeys(places, 5_200_000)

        async def position(self, _place: TopicPartition) -> int:
            return 1_200_000

        async def getmany(self, *_places: TopicPartition, timeout_ms: int) -> dict[Any, Any]:
            await asyncio.sleep(timeout_ms / 1000)
            return {}

    monkeypatch.setattr(restoring, "make_consumer", lambda _settings, **_options: Silent())
    monkeypatch.setattr(restoring, "STALL_SECONDS", 0.3)
    with pytest.raises(TimeoutError, match=r"1,200,000 of 5,200,000 records of pair-builder.changelog"):
        await read_changelog(KafkaSettings(), CHANGELOG, 0)


async def test_a_slow_restore_holds_nobody_up_and_is_shown(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = asyncio.Event()

    async def slow(settings: KafkaSettings, name: str, partition: int, begun: Any) -> Snapshot:
        if partition == 1:
            progress = Progress(settings.topic(name), total=5_200_000)
            progress.reach(1_200_000)
            begun(progress)
            await done.wait()
        return await read_changelog(settings, name, partition, begun)

    monkeypatch.setattr(opening, "read_changelog", slow)
    await send(kafka, [example_end(f"run-{number}", number) for number in range(4)])
    async with running(plan(kafka, Board())) as client:
        found = await read_until(kafka, OUTPUT, lambda found: len(found) >= 3)
        assert numbers(found, "run-1") == []
        wanted = f"partition 1: restoring, 1,200,000 of 5,200,000 records of {kafka.topic(CHANGELOG)}, "
        answer = await until_answer(client, "/health/ready", lambda answer: wanted in answer.text)
        assert answer.status_code == 503
        (reason,) = answer.json()["reasons"]
        assert reason.startswith(wanted)
        assert (await client.get("/health/live")).status_code == 200
        done.set()
        await read_until(kafka, OUTPUT, lambda found: len(found) == 4)


async def test_a_hundred_thousand_records_of_which_a_thousand_live_come_back_before_and_after_compaction(
    kafka: KafkaSettings,
) -> None:
    await shorten_times(kafka)
    live = await write_state(kafka, puts=PUTS, live=LIVE)
    before = await read_changelog(kafka, CHANGELOG, 0)
    assert before.read == 2 * PUTS - LIVE
    assert before.values == live
    async with asyncio.timeout(180):
        while (after := await roll_and_read(kafka)).read > before.read * 2 // 3:  # noqa: ASYNC110
            await asyncio.sleep(1)
    assert after.values == live


@pytest.mark.soak
async def test_three_million_records_of_which_a_thousand_live_come_back(kafka: KafkaSettings) -> None:
    await shorten_times(kafka)
    live = await write_state(kafka, puts=1_500_500, live=LIVE)
    assert (await read_changelog(kafka, CHANGELOG, 0)).values == live
    await roll_and_read(kafka)
    async with running(plan(kafka, Board())) as client, asyncio.timeout(900):
        while (await client.get("/health/ready")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.5)


async def shorten_times(kafka: KafkaSettings) -> None:
    """Have the changelog rolled and cleaned within seconds."""
    times = {
        "cleanup.policy": "compact",
        "segment.bytes": str(2 << 20),
        "segment.ms": "100",
        "min.cleanable.dirty.ratio": "0.01",
        "delete.retention.ms": "60000",
        "max.message.bytes": str(5 << 20),
    }
    async with administration(kafka) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, kafka.topic(CHANGELOG), times)])


async def write_state(kafka: KafkaSettings, *, puts: int, live: int) -> dict[bytes, bytes]:
    """Put keys and delete all but the last ones; return these."""
    values = {b"run-%d" % number: b"%d" % number for number in range(puts)}
    kept = dict(list(values.items())[-live:])
    records: list[tuple[bytes, bytes | None]] = list(values.items())
    records += [(key, None) for key in values if key not in kept]
    async with make_producer(kafka) as producer:
        for start in range(0, len(records), 20_000):
            batches = BatchSet(producer)
            for key, value in records[start : start + 20_000]:
                batches.append(kafka.topic(CHANGELOG), 0, key, value, [])
            sent = [
                await producer.send_batch(batch, name, partition=number) for name, number, batch in batches
            ]
            await asyncio.gather(*sent)
    return kept


async def roll_and_read(kafka: KafkaSettings) -> Snapshot:
    """End the segment that is written to, which is never cleaned, and read what is left."""
    async with make_producer(kafka) as producer:
        await producer.send_and_wait(kafka.topic(CHANGELOG), b"x" * (1 << 20), FILLER, partition=0)
        await producer.send_and_wait(kafka.topic(CHANGELOG), None, FILLER, partition=0)
    return await read_changelog(kafka, CHANGELOG, 0)
