"""Where a task stands is in its own state: what the group or the topic forgets costs nothing twice."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.errors import IllegalOperation, KafkaError
from aiokafka.protocol.admin import DeleteGroupsRequest
from structlog.testing import capture_logs

from tests.helpers.counting import (
    CHANGELOG,
    INPUT,
    OUTPUT,
    SERVICE,
    Board,
    example_end,
    numbers,
    plan,
    running,
    send,
    until_answer,
)
from tests.helpers.faults import delete_topics
from tests.helpers.log import read_all, read_until
from tests.helpers.surfaces import Fault, until_named
from tunestream.config.settings import KafkaSettings
from tunestream.events.runs import FIRST_FORMAT, FORMAT, NewerFormat
from tunestream.streams.admin import apply_topics
from tunestream.streams.broker.administration import administration
from tunestream.streams.broker.client import make_consumer, make_producer
from tunestream.streams.changelog.values import POSITIONS_KEY
from tunestream.streams.offsets.seeking import SeekRefused, seek
from tunestream.streams.publish import EncodedRecord
from tunestream.streams.tasks.plan import Plan
from tunestream.streams.tasks.task import Task

RUN = "run"


@pytest_asyncio.fixture(loop_scope="session")
async def kafka(kafka_settings: KafkaSettings) -> KafkaSettings:
    await apply_topics(kafka_settings)
    return kafka_settings


async def publish(kafka: KafkaSettings, count: int) -> None:
    await send(kafka, [example_end(RUN, 0) for _ in range(count)])


@asynccontextmanager
async def opened(made: Plan) -> AsyncIterator[Task]:
    """A task of partition 0, as if its member had just got it."""
    async with make_consumer(made.kafka, group_id=made.group) as consumer:
        task = Task(made, 0, lambda _task, _error: None)
        await task.open(consumer)
        try:
            yield task
        finally:
            await task.close(10.0, keep=False)


async def work(made: Plan, until: int | None = None) -> int:
    """Open the task, handle what lies before `until`, and return where it began."""
    async with opened(made) as task:
        (position,) = task.positions.values()
        records = [record for record in await read_all(made.kafka, INPUT) if record.partition == 0]
        await task.process(
            [r for r in records if position <= r.offset and (until is None or r.offset < until)]
        )
        return position


async def counted(kafka: KafkaSettings) -> list[int]:
    return numbers(await read_all(kafka, OUTPUT), RUN)


async def forget_group(kafka: KafkaSettings, service: str = SERVICE, topic: str = INPUT) -> None:
    group = kafka.topic(service)
    async with make_consumer(kafka, group_id=group) as consumer, asyncio.timeout(90):
        # The end of a transaction that came later would bring its offsets back.
        while await consumer.committed(TopicPartition(kafka.topic(topic), 0)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    async with administration(kafka) as admin:
        coordinator = await admin.find_coordinator(group)
        answer = await admin._send_request_to_node(coordinator, DeleteGroupsRequest([group]))
        assert [code for _, code in answer.results] == [0]


async def delete_records(kafka: KafkaSettings, before: int, partition: int = 0) -> None:
    place = TopicPartition(kafka.topic(INPUT), partition)
    async with administration(kafka) as admin:
        await admin.delete_records({place: RecordsToDelete(before_offset=before)})


async def make_anew(kafka: KafkaSettings) -> None:
    """Delete the input and create it again, empty."""
    await delete_topics(kafka, INPUT)
    await apply_topics(kafka)


async def test_deleted_group_offsets_read_nothing_again(kafka: KafkaSettings) -> None:
    made = plan(kafka, Board())
    await publish(kafka, 6)
    await work(made, until=4)
    await forget_group(kafka)

    with capture_logs() as logs:
        assert await work(made) == 4
    assert await counted(kafka) == [1, 2, 3, 4, 5, 6]
    (entry,) = [line for line in logs if line["event"] == "position.from_state"]
    assert (entry["committed"], entry["offset"]) == (None, 4)


async def test_what_the_group_or_the_topic_forgot_is_named_everywhere(
    kafka: KafkaSettings, log_lines: list[str]
) -> None:
    """One partition has a state and no offset, another has neither and lacks its first records."""
    await publish(kafka, 4)
    await work(plan(kafka, Board()))
    await forget_group(kafka)
    await send(kafka, [example_end("other", 1) for _ in range(3)])
    await delete_records(kafka, before=2, partition=1)
    forgotten = _moved(0, "from_state", "the group has no offset, and the state at 4")
    missing = _moved(1, "missing", "neither the group nor the state ha[ds] a position")
    async with running(plan(kafka, Board())) as client:
        await until_named(client, kafka, log_lines, forgotten)
        await until_named(client, kafka, log_lines, missing)
        first = _moved(2, "missing", "").metric
        assert re.search(rf"{first}.*\}} 1\.0", (await client.get("/metrics")).text)
        warnings = (await client.get("/health/ready")).json()["warnings"]
    assert not [line for line in warnings if "partition 2" in line], "a first start is no fault"


def _moved(partition: int, reason: str, what: str) -> Fault:
    return Fault(
        health=rf"partition {partition} of \S+: {what}",
        metric=rf'tunestream_position_moves_total\{{partition="{partition}",reason="{reason}"',
        log=rf'(?=.*"position\.{reason}").*"partition": {partition}',
        doctor=rf"pair_builder: partition {partition} of \S+: {what}",
    )


async def test_a_first_position_is_logged(kafka: KafkaSettings) -> None:
    await publish(kafka, 2)
    with capture_logs() as logs:
        assert await work(plan(kafka, Board())) == 0
    (entry,) = [line for line in logs if line["event"] == "position.missing"]
    assert (entry["topic"], entry["start"]) == (kafka.topic(INPUT), 0)


async def test_old_commands_are_not_obeyed_again(kafka: KafkaSettings) -> None:
    control = "training.control"
    await send(kafka, [EncodedRecord(control, b"k", b"{}", [], 0)])
    hour = 60 * 60 * 1000
    async with make_producer(kafka) as producer:
        for moment in (_now() - 2 * hour, _now() - hour // 2):
            await producer.send_and_wait(kafka.topic(control), b"{}", b"k", partition=1, timestamp_ms=moment)
    made = replace(plan(kafka, Board(), "training.batches", control), changelog=None)
    async with make_consumer(kafka, group_id=made.group) as consumer:
        starts = []
        for partition in (0, 1):
            task = Task(made, partition, lambda _task, _error: None)
            await task.open(consumer)
            starts.append(task.positions[TopicPartition(kafka.topic(control), partition)])
            await task.close(10.0, keep=False)
    assert starts == [0, 1]


async def test_a_trainer_knows_where_it_stands_beside_its_jobs(kafka: KafkaSettings) -> None:
    """Its changelog is a topic that others read, and holds its jobs alone."""
    control = "training.control"
    inputs = plan(kafka, Board(), "training.batches", control)
    made = replace(inputs, service="trainer", changelog="training.jobs")
    for expected in (0, 2):
        await send(kafka, [EncodedRecord(control, b"k", b"{}", [], 0) for _ in range(2)])
        async with make_consumer(kafka, group_id=made.group) as consumer:
            task = Task(made, 0, lambda _task, _error: None)
            await task.open(consumer)
            assert task.positions[TopicPartition(kafka.topic(control), 0)] == expected
            unread = [one for one in await read_all(kafka, control) if one.offset >= expected]
            await task.process(unread)
            await task.close(10.0, keep=False)
        await forget_group(kafka, "trainer", control)
    assert await read_all(kafka, "training.jobs") == []
    assert {record.key for record in await read_all(kafka, "trainer.changelog")} == {POSITIONS_KEY}
    assert (await seek(kafka, "trainer", control, 0, 1)).before == 4


@pytest.mark.parametrize("count", [2, 9])
async def test_a_topic_made_anew_is_read_from_its_first_younger_record(
    kafka: KafkaSettings, count: int
) -> None:
    """With fewer records than were read before, and with more."""
    made = plan(kafka, Board())
    await publish(kafka, 5)
    await work(made)
    await make_anew(kafka)
    await publish(kafka, count)

    with capture_logs() as logs:
        assert await work(made) == 0
    assert await counted(kafka) == list(range(1, 5 + count + 1))
    (entry,) = [line for line in logs if line["event"] == "position.moved"]
    assert (entry["offset"], entry["to"]) == (5, 0)


async def test_what_was_deleted_unread_is_shown_counted_and_logged(
    kafka: KafkaSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    made = plan(kafka, Board())
    await publish(kafka, 10)
    await work(made, until=3)
    await delete_records(kafka, before=7)

    async with running(made) as client:
        await read_until(kafka, OUTPUT, lambda found: numbers(found, RUN) == [1, 2, 3, 4, 5, 6])
        health = (await client.get("/health/ready")).json()
        series = {gap_series(kafka, 0, 4), gap_series(kafka, 1, 0)}  # one opens after the other
        await until_answer(client, "/metrics", lambda answer: series <= set(answer.text.splitlines()))
    (entry,) = [line for line in capfd.readouterr().err.splitlines() if "partition.gap" in line]
    assert '"first": 3, "end": 7' in entry
    (line,) = [line for line in health["warnings"] if "were deleted before they were read" in line]
    assert "offsets 3 to 6" in line


async def test_what_is_deleted_while_a_service_runs_is_a_gap_also_when_nothing_follows(
    kafka: KafkaSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    """The client passes it in silence, and no record shows that it did."""
    board = Board(held={0: asyncio.Event()})
    await publish(kafka, 1)
    async with running(plan(kafka, board)) as service:
        await logged(capfd, "partition.slow")
        await publish(kafka, 6)
        await delete_records(kafka, before=7)
        board.held.pop(0).set()
        await logged(capfd, "partition.gap")
        (line,) = (await service.get("/health/ready")).json()["warnings"]
        metrics = (await service.get("/metrics")).text
    assert "offsets 1 to 6 were deleted" in line
    assert gap_series(kafka, 0, 6) in metrics
    assert await counted(kafka) == [1]


async def logged(capfd: pytest.CaptureFixture[str], event: str) -> None:
    """Wait until a service in this process has logged an event."""
    async with asyncio.timeout(90):
        while event not in capfd.readouterr().err:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def gap_series(kafka: KafkaSettings, partition: int, count: int) -> str:
    labels = f'partition="{partition}",service="{SERVICE}",topic="{kafka.topic(INPUT)}"'
    return f"tunestream_gap_records_total{{{labels}}} {count:.1f}"


async def test_what_was_deleted_after_it_was_read_is_no_gap(kafka: KafkaSettings) -> None:
    made = plan(kafka, Board())
    await publish(kafka, 5)
    await work(made)
    await delete_records(kafka, before=5)
    async with opened(made) as task:
        assert task.gaps == []


async def test_a_deployment_that_was_not_upgraded_gets_what_the_release_before_reads(
    kafka: KafkaSettings,
) -> None:
    number = [FIRST_FORMAT]
    board = Board()
    made = replace(plan(kafka, board), format=lambda: number[0])
    await publish(kafka, 4)
    await work(made, until=1)
    assert [(record.key, record.value) for record in await read_all(kafka, CHANGELOG)] == [(b"run", b"1")]

    number[0] = FORMAT
    await work(made, until=2)
    first, *later = await read_all(kafka, CHANGELOG)
    assert first.value == b"1"
    assert {record.key for record in later} == {b"run", POSITIONS_KEY}
    assert all(record.value.startswith(b"\x02") for record in later)
    await work(made)
    assert board.restored == [(0, b"run", b"1"), (0, b"run", b"2")]
    assert await counted(kafka) == [1, 2, 3, 4]


async def test_a_service_refuses_a_deployment_that_a_later_release_upgraded(
    kafka: KafkaSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    def later() -> int:
        raise NewerFormat("install the release that finished the upgrade")

    logged = ""
    async with running(replace(plan(kafka, Board()), format=later)), asyncio.timeout(90):
        while '"service.failed"' not in logged:
            await asyncio.sleep(0.05)
            logged += capfd.readouterr().err
    (line,) = [line for line in logged.splitlines() if '"service.failed"' in line]
    assert "install the release" in line


async def test_a_format_that_is_raised_meanwhile_is_a_reason(kafka: KafkaSettings) -> None:
    upgraded: list[Exception] = []

    def number() -> int:
        for error in upgraded:
            raise error
        return FORMAT

    async with running(replace(plan(kafka, Board()), format=number)) as client:
        async with asyncio.timeout(90):
            while (await client.get("/health/ready")).status_code != httpx.codes.OK:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        upgraded.append(NewerFormat("install the release that finished the upgrade"))
        await publish(kafka, 1)
        async with asyncio.timeout(90):
            while "install the release" not in (await client.get("/health/ready")).text:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    assert await counted(kafka) == []


async def test_an_operator_sets_a_position_in_group_and_state(kafka: KafkaSettings) -> None:
    made = plan(kafka, Board())
    await publish(kafka, 6)
    await work(made)

    back = await seek(kafka, SERVICE, INPUT, 0, 2)
    assert (back.before, back.offset) == (6, 2)
    assert await work(made, until=2) == 2
    await forget_group(kafka)  # the state knows it as well
    assert await work(made) == 2

    assert (await seek(kafka, SERVICE, INPUT, 0, "earliest")).offset == 0
    assert (await seek(kafka, SERVICE, INPUT, 0, "latest")).offset == 6
    assert await work(made) == 6


async def test_who_works_while_a_position_is_set_is_fenced(kafka: KafkaSettings) -> None:
    made = plan(kafka, Board())
    await publish(kafka, 4)
    async with opened(made) as task:
        await seek(kafka, SERVICE, INPUT, 0, 3)
        # The client may learn it between two of its calls: then it takes no more, and does not show why.
        with pytest.raises((KafkaError, IllegalOperation)):
            await task.process(await read_all(kafka, INPUT))
    assert await work(made) == 3
    assert await counted(kafka) == [1]


@pytest.mark.parametrize(
    ("service", "topic", "partition", "offset", "named"),
    [
        ("nobody", INPUT, 0, 0, "pair-builder"),
        (SERVICE, "ttc.events", 0, 0, INPUT),
        (SERVICE, INPUT, 4, 0, "0 to 3"),
        (SERVICE, INPUT, 0, 9, "earliest or latest"),
    ],
)
async def test_a_place_that_is_not_there_is_refused(
    kafka: KafkaSettings, service: str, topic: str, partition: int, offset: int, named: str
) -> None:
    with pytest.raises(SeekRefused) as refused:
        await seek(kafka, service, topic, partition, offset)
    assert named in refused.value.remedy


async def test_nobody_is_moved_while_at_work(kafka: KafkaSettings) -> None:
    async with running(plan(kafka, Board())) as client:
        async with asyncio.timeout(90):
            while (await client.get("/health/ready")).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        with pytest.raises(SeekRefused, match="is at work"):
            await seek(kafka, SERVICE, INPUT, 0, 0)


def _now() -> int:
    return time.time_ns() // 1_000_000


async def test_a_topic_made_anew_under_a_running_service_is_read_from_its_first_record(
    kafka: KafkaSettings, log_lines: list[str]
) -> None:
    """The client goes back to the beginning in silence; what comes then is not passed over."""
    await publish(kafka, 5)
    async with running(plan(kafka, Board())) as client:
        await read_until(kafka, OUTPUT, lambda found: numbers(found, RUN) == [1, 2, 3, 4, 5])
        await make_anew(kafka)
        await publish(kafka, 9)
        found = await read_until(kafka, OUTPUT, lambda found: len(numbers(found, RUN)) >= 14)
        await until_named(client, kafka, log_lines, _moved(0, "moved", "reading went on at 0"))
    assert numbers(found, RUN) == list(range(1, 15))


async def test_an_input_that_was_deleted_is_missed_and_read_when_it_is_there_again(
    kafka: KafkaSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    """The group is joined without it, and again with it."""
    gauge = f'tunestream_input_missing{{service="{SERVICE}",topic="{kafka.topic(INPUT)}"}}'
    await publish(kafka, 5)
    async with running(plan(kafka, Board())) as service:
        await read_until(kafka, OUTPUT, lambda found: numbers(found, RUN) == [1, 2, 3, 4, 5])
        await delete_topics(kafka, INPUT)
        missed = f"topic {kafka.topic(INPUT)} is not on the broker"
        answer = await until_answer(service, "/health/ready", lambda answer: missed in answer.text)
        assert answer.status_code == 503
        await until_answer(service, "/metrics", lambda answer: f"{gauge} 1.0" in answer.text)
        await apply_topics(kafka)
        await publish(kafka, 9)
        found = await read_until(kafka, OUTPUT, lambda found: len(numbers(found, RUN)) >= 14)
        await until_answer(service, "/metrics", lambda answer: f"{gauge} 0.0" in answer.text)
    assert numbers(found, RUN) == list(range(1, 15))
    assert "input.missing" in capfd.readouterr().err
