"""A deployment is upgraded, rolled back and upgraded again while events flow; every turn counts once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord

from tests.helpers.audit import origins
from tests.helpers.log import header, read_all, read_until
from tests.helpers.releases import Release, change, release_before, run_as
from tests.helpers.runs import apply_run
from tests.helpers.services import ServiceProcess
from tunestream.artifacts import ArtifactStore, read_rows
from tunestream.config.settings import KafkaSettings
from tunestream.events.dataset import PreferenceRow
from tunestream.events.runs import FORMAT
from tunestream.events.training import TrainingBatch
from tunestream.events.ttc import TTCCandidate
from tunestream.events.turns import TTCTurn, TTCTurnCandidate
from tunestream.sdk import TTCPublisher
from tunestream.streams.admin import apply_topics
from tunestream.streams.letters.dead_letters import DLQ_MESSAGE
from tunestream.streams.runs import RunDirectory
from tunestream.topics import CATALOGUE

CANDIDATES, PAIRS = 3, 3
PAUSE_SECONDS = 0.05
NOW: Release = {}
RUN, LATER = "run", "later"
SECTIONS = {
    "trajectory_builder": {"turn_timeout": "1h"},
    "batching": {
        "window_pairs": 20 * PAIRS,
        "min_batch_pairs": 1,
        "flush_after": "10s",
        "validation_fraction": 0.1,
    },
}
Place = tuple[str, str]
# Readers before writers. Replicas have static names in their group.
SHORT: Sequence[Place] = (("pair_builder", "0"), ("ttc_collector", "0"))
WHOLE: Sequence[Place] = (("curriculum_gate", "0"), ("pair_builder", "0"), ("pair_builder", "1"), SHORT[-1])


class Agents:
    """Publish turns, one candidate after the other, until they are stopped.

    Attributes:
        runs: that turns are published for; more may be added.
        whole: whether turns are records by now.
        turns: that were published, by run.
        events: how many records these are.
    """

    def __init__(self) -> None:
        self.runs = [RUN]
        self.whole = False
        self.turns: Counter[str] = Counter()
        self.events = 0
        self._stopping = asyncio.Event()

    async def publish(self, settings: KafkaSettings) -> None:
        async with TTCPublisher(settings) as publisher:
            while not self._stopping.is_set():
                for run in self.runs:
                    for event in turn_of(run, self.turns[run], whole=self.whole):
                        await publisher.publish(event)
                        self.events += 1
                        await asyncio.sleep(PAUSE_SECONDS / CANDIDATES)
                    self.turns[run] += 1

    async def more(self, count: int) -> None:
        """Wait until so many more turns were published."""
        wanted = self.turns.total() + count
        while self.turns.total() < wanted:  # noqa: ASYNC110
            await asyncio.sleep(PAUSE_SECONDS)

    def stop(self) -> None:
        self._stopping.set()


def turn_of(run: str, number: int, *, whole: bool) -> Iterator[TTCTurn | TTCCandidate]:
    """Yield the candidates of a turn, or the turn as a record."""
    name, prompt = f"example-{number}", f"prompt {number}"
    texts = [f"response {index}" for index in range(CANDIDATES)]
    scores = [float((number * 7 + index) % 11) + index / 8 for index in range(CANDIDATES)]
    members = enumerate(zip(texts, scores, strict=True))
    if whole:
        candidates = [
            TTCTurnCandidate(candidate_id=str(index), candidate_index=index, response=text, score=score)
            for index, (text, score) in members
        ]
        yield TTCTurn(run_id=run, example_id=name, turn_id="turn", prompt=prompt, candidates=candidates)
        return
    for index, (text, score) in members:
        yield TTCCandidate(
            run_id=run,
            example_id=name,
            turn_id="turn",
            candidate_id=str(index),
            candidate_index=index,
            prompt=prompt,
            response=text,
            score=score,
            expected_candidates=CANDIDATES,
        )


@asynccontextmanager
async def deployed(
    settings: KafkaSettings, folder: Path, line: Sequence[Place], release: Release
) -> AsyncIterator[list[ServiceProcess]]:
    """The replicas of a line as a release."""
    replicas = [ServiceProcess(name, settings, folder, number, release) for name, number in line]
    try:
        for replica in replicas:
            replica.start()
        await asyncio.gather(*(replica.ready() for replica in replicas))
        yield replicas
    finally:
        await asyncio.gather(*(asyncio.to_thread(replica.stop) for replica in replicas))


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("line", [SHORT, WHOLE], ids=["short", "whole line"])
async def test_a_deployment_is_upgraded_rolled_back_and_upgraded_again(
    kafka_settings: KafkaSettings, tmp_path: Path, line: Sequence[Place]
) -> None:
    before = release_before(tmp_path / "before")
    applied = run_as(before, kafka_settings, "topics", "apply", "--partitions", "3")
    assert applied.returncode == 0, applied.stderr
    await apply_run(kafka_settings, RUN, **SECTIONS)  # its record is one that the release before reads
    agents = Agents()
    async with deployed(kafka_settings, tmp_path / "line", line, before) as replicas:
        publishing = asyncio.create_task(agents.publish(kafka_settings))
        await agents.more(20)
        await apply_topics(kafka_settings)
        assert await written_format(kafka_settings) == FORMAT - 1
        for replica in replicas:
            await change(replica, NOW)
        await apply_run(kafka_settings, LATER, **SECTIONS)
        agents.runs.append(LATER)
        await agents.more(20)
        for replica in reversed(replicas):
            await change(replica, before)
        await agents.more(20)
        for replica in replicas:
            await change(replica, NOW)
        finished = run_as(NOW, kafka_settings, "upgrade", "finish")
        assert finished.returncode == 0, finished.stderr
        await agents.more(20)
        agents.whole = True
        await agents.more(20)
        agents.stop()
        await publishing
        await every_turn_is_closed_once(kafka_settings, agents)
        if line is WHOLE:
            await every_pair_is_in_one_batch(kafka_settings, tmp_path / "line", agents.turns.total())
    refused = run_as(before, kafka_settings, "upgrade", "show")
    assert refused.returncode == 1
    assert "install the release that finished the upgrade" in refused.stderr


async def written_format(settings: KafkaSettings) -> int:
    async with RunDirectory(settings) as runs:
        return runs.format


async def every_turn_is_closed_once(settings: KafkaSettings, agents: Agents) -> None:
    """Compare what was published with what is at each stage."""
    turns, count = agents.turns, agents.turns.total()
    groups = await read_until(settings, "trajectories", lambda found: len(members(found)) >= count)
    found = Counter(members(groups))
    assert set(found) == {(run, f"example-{number}") for run, last in turns.items() for number in range(last)}
    assert set(found.values()) == {1}
    counted = origins(await read_all(settings, "ttc.candidates"))
    assert (len(counted), set(counted.values())) == (agents.events, {1})
    for entry in CATALOGUE:
        if entry.source is not None:
            letters = await read_all(settings, entry.name)
            assert not letters, dict(letters[0].headers)[DLQ_MESSAGE]


async def every_pair_is_in_one_batch(settings: KafkaSettings, folder: Path, turns: int) -> None:
    def enough(records: list[ConsumerRecord]) -> bool:
        return len(rows_of(records, folder)) >= turns * PAIRS

    rows = rows_of(await read_until(settings, "training.batches", enough), folder)
    assert len(rows) == len(set(rows)) == turns * PAIRS


def members(records: Iterable[ConsumerRecord]) -> list[tuple[str, str]]:
    """Return run and example of every group with all its pairs, of either version."""
    groups = [
        json.loads(record.value)
        for record in records
        if (header(record, "ce_type") or "").startswith("tunestream.trajectory_group.")
    ]
    return [
        (group["run_id"], group["example_id"])
        for group in groups
        if len(group.get("pairs", group.get("trajectories"))) == PAIRS
    ]


def rows_of(records: Iterable[ConsumerRecord], folder: Path) -> list[tuple[str, str, str]]:
    """Return run, example and rejected response of every row that jobs would train on."""
    store = ArtifactStore(str(folder / "artifacts"))
    batches = [
        TrainingBatch.model_validate_json(record.value)
        for record in records
        if header(record, "ce_type") == "tunestream.training_batch.v1"
    ]
    return [
        (batch.run_id, row.example_id, f"{row.chosen} {row.rejected}")
        for batch in batches
        for part in (batch.train, batch.validation)
        if part is not None
        for row in read_rows(store.get_bytes(part.uri, part.sha256))
        if isinstance(row, PreferenceRow)
    ]
