"""The same events again, at another speed and with a restart, give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from aiokafka import ConsumerRecord

from tests.helpers.audit import bodies_by_turn
from tests.helpers.chaos import crash
from tests.helpers.log import header, read_all, read_until
from tests.helpers.runs import apply_run
from tests.helpers.services import ServiceProcess
from tests.helpers.workload import PAIRS, RUNS, publish
from tunestream.config.settings import KafkaSettings
from tunestream.events.keys import decode_key
from tunestream.events.registry import type_of
from tunestream.events.windows import CurriculumWindow
from tunestream.streams.admin import apply_topics
from tunestream.streams.publish import EncodedRecord, EventProducer

WINDOW_TURNS = 10
# Six windows of each run, and one that closes by ticks.
TURNS = 240 + len(RUNS) * 8
# Another speed than that of the first time.
SLOW = {"TUNESTREAM_MAX_RECORDS_PER_COMMIT": "7"}
CHUNK = 50
REPLAY = {"TUNESTREAM_COLLECTOR_REPLAY": "true"}
BATCHING = {
    "window_pairs": WINDOW_TURNS * PAIRS,
    "min_batch_pairs": 1,
    "max_wait": "1h",
    "flush_after": "15s",  # longer than a busy machine holds up a run in the middle
    "validation_fraction": 0.2,
}
CURRICULUM = {
    "enabled": True,
    "initial_percentile": 0.5,
    "increment_percentile": 0.25,
    "expansion_interval": 2,
}


@dataclass(frozen=True)
class First:
    """What a deployment read and wrote the first time, and the folder of its datasets."""

    events: list[ConsumerRecord]
    trajectories: list[ConsumerRecord]
    training: list[ConsumerRecord]
    folder: Path


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def first(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> First:
    settings = await _deployment(kafka, f"t{uuid4().hex[:10]}.")
    folder = tmp_path_factory.mktemp("first")
    async with (
        _collector(settings, folder),
        _pair_builder(settings, folder),
        ServiceProcess("curriculum_gate", settings, folder),
    ):
        await publish(settings, TURNS)
        training = await read_until(settings, "training.batches", _all_windows)
    events, trajectories = await read_all(settings, "ttc.events"), await read_all(settings, "trajectories")
    return First(events, trajectories, training, folder)


async def test_events_replayed_give_the_same_groups(
    first: First, kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    expected = bodies_by_turn(first.trajectories)
    assert len(expected) == TURNS
    again = await _deployment(kafka, topic_prefix)
    async with (
        _collector(again, tmp_path, SLOW | REPLAY) as collector,
        _pair_builder(again, tmp_path, SLOW) as builder,
    ):
        middle = len(first.events) // 2
        await _replay(again, "ttc.events", first.events[:middle])
        await crash(builder)
        await crash(collector)
        await _replay(again, "ttc.events", first.events[middle:])
        assert await _groups(again) == expected


async def test_trajectories_replayed_give_the_same_batches_and_datasets(
    first: First, kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    records, expected = first.trajectories, _batches(first.training)
    assert any(header(record, "ce_type") == "tunestream.tick.v1" for record in records)
    again = await _deployment(kafka, topic_prefix)
    async with ServiceProcess("curriculum_gate", again, tmp_path, env=SLOW) as gate:
        middle = len(records) // 2
        await _replay(again, "trajectories", records[:middle])
        await crash(gate)
        await _replay(again, "trajectories", records[middle:])
        assert _batches(await read_until(again, "training.batches", _all_windows)) == expected
    assert _datasets(tmp_path) == _datasets(first.folder)


async def _deployment(kafka: str, prefix: str) -> KafkaSettings:
    settings = KafkaSettings(bootstrap_servers=kafka, topic_prefix=prefix)
    await apply_topics(settings)
    for run in RUNS:
        await apply_run(
            settings,
            run,
            trajectory_builder={"turn_timeout": "1h"},
            batching=BATCHING,
            curriculum_learning=CURRICULUM,
        )
    return settings


def _collector(kafka: KafkaSettings, folder: Path, env: dict[str, str] | None = None) -> ServiceProcess:
    return ServiceProcess("ttc_collector", kafka, folder, env=env or {})


def _pair_builder(kafka: KafkaSettings, folder: Path, env: dict[str, str] | None = None) -> ServiceProcess:
    return ServiceProcess("pair_builder", kafka, folder, env=env or {})


async def _groups(settings: KafkaSettings) -> dict[tuple[str, str, str], list[bytes]]:
    records = await read_until(settings, "trajectories", lambda found: len(bodies_by_turn(found)) == TURNS)
    return bodies_by_turn(records)


async def _replay(settings: KafkaSettings, topic: str, records: Sequence[ConsumerRecord]) -> None:
    """Copy records as they are, each into its partition, with the log time that they first had."""
    async with EventProducer(settings) as producer:
        for number, record in enumerate(records, start=1):
            headers = [*record.headers, ("ce_tslogtime", b"%d" % record.timestamp)]
            await producer.send(EncodedRecord(topic, record.key, record.value, headers, record.partition))
            if number % CHUNK == 0:
                await producer.flush()


def _all_windows(records: list[ConsumerRecord]) -> bool:
    windows = [record for record in records if header(record, "ce_type") == type_of(CurriculumWindow)]
    return len(windows) >= len(RUNS) * (TURNS // len(RUNS) // WINDOW_TURNS + 1)


def _batches(records: Sequence[ConsumerRecord]) -> dict[tuple[str, str], list[bytes]]:
    """Return the batches and the decisions about windows, by run and type."""
    found: dict[tuple[str, str], list[bytes]] = {}
    for record in records:
        place = (decode_key(record.key)[0], header(record, "ce_type") or "")
        found.setdefault(place, []).append(record.value)
    return found


def _datasets(folder: Path) -> dict[str, bytes]:
    root = folder / "artifacts"
    # A gate that is killed while it writes leaves a partial file, which nobody refers to.
    whole = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".partial")
    return {str(path.relative_to(root)): path.read_bytes() for path in whole}
