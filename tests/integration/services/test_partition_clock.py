"""One clock a partition, the broker's: no agent's clock, no busy run and no partitioner keeps a turn open."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import ConsumerRecord
from typer.testing import CliRunner

from tests.helpers import recordings
from tests.helpers.audit import TICK_TYPE
from tests.helpers.groups import GROUP_TYPES, AnyGroup, read_group
from tests.helpers.log import BATCH, header, read_all, read_until
from tests.helpers.raw_batches import write_batch
from tests.helpers.runs import apply_run
from tests.helpers.services import Deployment
from tunestream.cli import app
from tunestream.config.settings import KafkaSettings
from tunestream.events.keys import encode_key
from tunestream.events.ttc import TTCCandidate, TTCTurnEnd
from tunestream.sdk.event_records import NativeEvent, nat_record, native_record
from tunestream.streams.publish import EncodedRecord, EventProducer
from tunestream.streams.tasks.encoding import partition_for

PARTITIONS = 4
NO_BATCHES = {
    "window_pairs": 1_000_000,
    "min_batch_pairs": 1_000_000,
    "max_wait": "366d",
    "flush_after": "366d",
}
QUIET = {
    "window_pairs": 1_000,
    "min_batch_pairs": 1,
    "max_wait": "2s",
    "flush_after": "2s",
    "validation_fraction": 0.0,
}
BUSY_PAUSE = 0.02


def run_on(partition: int) -> str:
    """Return a new run whose groups lie in a partition of `trajectories`."""
    names = (f"clock-{uuid4().hex[:8]}" for _ in range(10_000))
    return next(name for name in names if partition_for(encode_key(name), PARTITIONS) == partition)


def example_on(run: str, partition: int) -> str:
    """Return an example of a run whose events lie in a partition of `ttc.events`."""
    names = (f"example-{number}" for number in range(10_000))
    return next(name for name in names if partition_for(encode_key(run, name), PARTITIONS) == partition)


def candidate(run: str, example: str, turn: str, index: int, expected: int | None = None) -> TTCCandidate:
    return TTCCandidate(
        run_id=run,
        example_id=example,
        turn_id=turn,
        candidate_id=str(index),
        candidate_index=index,
        prompt=f"prompt of {turn}",
        response=f"response {index}",
        score=float(index),
        expected_candidates=expected,
    )


def record_of(event: NativeEvent, *, ahead: float = 0.0, partition: int | None = None) -> EncodedRecord:
    """Return an event of an agent whose clock is so many seconds ahead."""
    record = native_record(event, source="/tests", time=time.time_ns() // 1_000_000 + int(ahead * 1000))
    return EncodedRecord(record.topic, record.key, record.value, record.headers, partition)


async def write_turn(kafka: KafkaSettings, run: str, example: str, turn: str, *, partition: int) -> None:
    """Write two candidates in one batch: a broker that is held up lets no time-out pass between them."""
    events = [candidate(run, example, turn, index) for index in range(2)]
    await write_batch(kafka, [record_of(event, partition=partition) for event in events])


@asynccontextmanager
async def busy(kafka: KafkaSettings, run: str, partition: int) -> AsyncIterator[None]:
    """Keep a partition busy: a whole turn every few hundredths of a second."""
    example = example_on(run, partition)

    async def publish() -> None:
        async with EventProducer(kafka) as producer:
            for number in range(1_000_000):
                for index in range(2):
                    await producer.send(record_of(candidate(run, example, f"t{number}", index, 2)))
                await asyncio.sleep(BUSY_PAUSE)

    publishing = asyncio.create_task(publish())
    try:
        yield
        assert not publishing.done()
    finally:
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)


def groups(records: Sequence[ConsumerRecord]) -> list[AnyGroup]:
    return [read_group(record.value) for record in records if header(record, "ce_type") in GROUP_TYPES]


async def groups_of(kafka: KafkaSettings, run: str, count: int) -> list[AnyGroup]:
    return groups(await read_until(kafka, "trajectories", lambda found: len(groups(found)) >= count, run=run))


async def test_a_quiet_run_beside_a_busy_one_closes_its_turn_and_trains_its_last_window(
    deployment: Deployment,
) -> None:
    """Its turn, its group and its window are all on the partition number that is never silent."""
    kafka, loud, quiet = deployment.kafka, run_on(0), run_on(1)
    await apply_run(kafka, loud, batching=NO_BATCHES)
    await apply_run(kafka, quiet, trajectory_builder={"turn_timeout": "2s"}, batching=QUIET)
    async with busy(kafka, loud, 1):
        await groups_of(kafka, loud, 5)
        await write_turn(kafka, quiet, example_on(quiet, 1), "last", partition=1)
        (batch,) = await read_until(
            kafka, "training.batches", lambda found: len(found) == 1, run=quiet, ce_type=BATCH
        )
    assert json.loads(batch.value)["train"]["rows"] == 1
    (group,) = await groups_of(kafka, quiet, 1)
    assert group.closed_by == "timeout"


@pytest.mark.parametrize("silent", [True, False])
async def test_a_turn_of_a_client_with_another_partitioner_times_out(
    deployment: Deployment, silent: bool
) -> None:
    """Everything that comes of a record stays on its number, wherever the key's hash would put it."""
    kafka, loud, run = deployment.kafka, run_on(0), run_on(3)
    await apply_run(kafka, loud, batching=NO_BATCHES)
    await apply_run(kafka, run, trajectory_builder={"turn_timeout": "2s"}, batching=NO_BATCHES)
    example = example_on(run, 2)
    await write_turn(kafka, run, example, "t", partition=3)
    if silent:
        (group,) = await groups_of(kafka, run, 1)
    else:
        async with busy(kafka, loud, 3):
            (group,) = await groups_of(kafka, run, 1)
    assert (group.closed_by, len(group.scores)) == ("timeout", 2)
    steps = await read_all(kafka, "ttc.candidates", run=run)
    assert [step.partition for step in steps] == [3, 3]


CLOCKS = (0.0, -601.0, -3_600.0, 601.0, 3_600.0, -86_400.0 * 365)


async def test_no_agents_clock_loses_or_closes_anything(deployment: Deployment) -> None:
    kafka, run = deployment.kafka, run_on(2)
    await apply_run(kafka, run, batching=NO_BATCHES)
    example = example_on(run, 2)
    rounds, members = 3, 2
    async with EventProducer(kafka) as producer:
        for number in range(rounds):
            for index in range(members):
                for ahead in CLOCKS:
                    event = candidate(run, example, f"{number} {ahead}", index)
                    await producer.send(record_of(event, ahead=ahead))
            for ahead in CLOCKS:
                end = TTCTurnEnd(run_id=run, example_id=example, turn_id=f"{number} {ahead}")
                await producer.send(record_of(end, ahead=ahead))
    found = await groups_of(kafka, run, rounds * len(CLOCKS))
    assert {(group.closed_by, len(group.scores)) for group in found} == {("turn_end", members)}
    assert len(found) == rounds * len(CLOCKS)
    assert await read_all(kafka, "ttc.events.dlq", run=run) == []
    assert await read_all(kafka, "ttc.candidates.dlq", run=run) == []


async def test_stream_time_is_the_brokers_and_never_goes_back(deployment: Deployment) -> None:
    found = await read_all(deployment.kafka, "ttc.candidates")
    records = [
        record
        for record in found
        if header(record, "ce_source") == "/tunestream/ttc-collector"
        and not header(record, "ts_dlq_replay_for")
    ]
    events = await read_all(deployment.kafka, "ttc.events")
    taken = {f"{event.partition}/{event.offset}": event.timestamp for event in events}
    last = Counter[int]()
    for record in records:
        now = _milliseconds(header(record, "ce_time"))
        assert now >= last[record.partition]
        last[record.partition] = now
        if header(record, "ce_type") != TICK_TYPE:
            assert abs(now - taken[header(record, "ce_tsorigin") or ""]) < 60_000


def _milliseconds(text: str | None) -> int:
    from tunestream.events.cloudevents import parse_time

    assert text is not None
    return parse_time(text)


@recordings.needs_recordings
async def test_events_before_their_run_was_applied_are_replayed_without_a_loss(
    deployment: Deployment,
) -> None:
    """The documented remedy; the run's other events, which came in the meantime, do not make them late."""
    kafka, run = deployment.kafka, run_on(1)
    steps = [
        (example, step)
        for example, step in recordings.events()
        if step["payload"]["event_type"] in {"TTC_END", "WORKFLOW_END"}
    ][:STEPS]
    wanted = sum(step["payload"]["event_type"] == "TTC_END" for _, step in steps)
    hour_ago = time.time_ns() // 1_000_000 - 3_600_000
    async with EventProducer(kafka) as producer:
        for number, (example, step) in enumerate(steps):
            payload = json.dumps(step).encode()
            await producer.send(nat_record(run, example, payload, source="/tests", time=hour_ago + number))
    await read_until(kafka, "ttc.events.dlq", lambda found: len(found) == len(steps), run=run)
    await apply_run(kafka, run, trajectory_builder={"turn_timeout": "5s"}, batching=NO_BATCHES)
    async with EventProducer(kafka) as producer:
        for partition in range(PARTITIONS):
            await producer.send(record_of(candidate(run, example_on(run, partition), "newer", 0, 1)))
    await groups_of(kafka, run, PARTITIONS)
    await _dlq(kafka, "replay", "--reason", "unknown_run", "--run", run)
    records = await read_until(
        kafka, "trajectories", lambda found: _members(found) >= wanted + PARTITIONS, run=run
    )
    assert _members(records) == wanted + PARTITIONS
    assert await read_all(kafka, "ttc.candidates.dlq", run=run) == []


STEPS = 1_500


def _members(records: Sequence[ConsumerRecord]) -> int:
    return sum(len(group.scores) for group in groups(records))


async def _dlq(kafka: KafkaSettings, *arguments: str) -> Any:
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "TUNESTREAM_KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
    }
    done = await asyncio.to_thread(CliRunner().invoke, app, ["dlq", *arguments], env=environment)
    assert done.exit_code == 0, done.output
