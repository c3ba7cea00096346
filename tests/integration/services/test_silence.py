"""A turn that nobody ends is closed by silence, also when the collector dies meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.audit import TICK_TYPE, bodies_by_turn
from tests.helpers.chaos import crash
from tests.helpers.groups import GROUP_TYPES, read_group
from tests.helpers.log import header, read_until
from tests.helpers.raw_batches import write_batch
from tests.helpers.runs import apply_run
from tests.helpers.services import ServiceProcess
from tunestream.config.settings import KafkaSettings
from tunestream.events.keys import encode_key
from tunestream.events.ttc import TTCCandidate
from tunestream.sdk.event_records import native_record
from tunestream.streams.admin import apply_topics
from tunestream.streams.publish import EncodedRecord
from tunestream.streams.tasks.encoding import partition_for


async def _nothing(_collector: ServiceProcess) -> None:
    """Leave the collector alone."""


@pytest.mark.parametrize("accident", [_nothing, crash])
async def test_silence_closes_a_turn(
    kafka_settings: KafkaSettings, tmp_path: Path, accident: Callable[[ServiceProcess], Awaitable[None]]
) -> None:
    await apply_topics(kafka_settings)
    await apply_run(kafka_settings, "run", trajectory_builder={"turn_timeout": "1s"})
    collector = ServiceProcess("ttc_collector", kafka_settings, tmp_path)
    async with collector, ServiceProcess("pair_builder", kafka_settings, tmp_path):
        # In one batch: a broker that is held up lets no time-out pass between them.
        await write_batch(kafka_settings, [_record(index, kafka_settings.partitions) for index in range(2)])
        await read_until(kafka_settings, "ttc.candidates", lambda found: len(found) >= 2)
        await accident(collector)
        records = await read_until(kafka_settings, "trajectories", lambda found: bool(bodies_by_turn(found)))
    (body,) = bodies_by_turn(records)["run", "example", "turn"]
    group = read_group(body)
    assert (group.closed_by, len(group.trajectories)) == ("timeout", 1)
    assert {header(record, "ce_type") for record in records} <= {TICK_TYPE, *GROUP_TYPES}


def _record(index: int, partitions: int) -> EncodedRecord:
    place = partition_for(encode_key("run", "example"), partitions)
    return replace(native_record(_candidate(index), source="/tests", time=0), partition=place)


def _candidate(index: int) -> TTCCandidate:
    return TTCCandidate(
        run_id="run",
        example_id="example",
        turn_id="turn",
        candidate_id=str(index),
        prompt="prompt",
        response=f"response {index}",
        score=float(index),
    )
