"""Agents in other languages: whatever codec, partitioner and clock they use, the pairs are the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest
from aiokafka import ConsumerRecord

from tests.helpers.audit import TurnKey, bodies_by_turn
from tests.helpers.foreign import CODECS, Event, compress_topic, partition_of, send
from tests.helpers.groups import read_group
from tests.helpers.log import read_all, read_until
from tests.helpers.runs import apply_run
from tests.helpers.services import Deployment
from tunestream.config.settings import KafkaSettings
from tunestream.events.keys import encode_key
from tunestream.events.trajectories import CloseReason
from tunestream.events.ttc import TTCCandidate, TTCExampleEnd, TTCTurnEnd
from tunestream.sdk import TTCPublisher
from tunestream.streams.broker.metadata import partition_count
from tunestream.streams.tasks.encoding import partition_for

pytestmark = pytest.mark.timeout(600)
EXAMPLES = 12
BUILDER = {"turn_timeout": "10s", "exhaustive_pairs": True, "max_pairs_per_turn": None}
NO_BATCHES = {"window_pairs": 1_000_000, "max_wait": "366d", "flush_after": "366d"}
OURS = "clients-sdk"
FOREIGN = {f"clients-{codec}": codec for codec in CODECS}
BY_BROKER = {f"clients-broker-{codec}": codec for codec in CODECS[1:]}
# As agents' clocks are: right, wrong by years, of another offset, none.
TIMES = ("2026-01-02T03:04:05Z", "1999-12-31T23:59:59.999999+05:30", "2199-01-01T00:00:00-11:00", None)
Closed = dict[str, tuple[str, list[tuple[str, str, float]]]]


async def test_the_pairs_are_those_of_our_sdk(deployment: Deployment) -> None:
    kafka = deployment.kafka
    runs = [OURS, *FOREIGN, *BY_BROKER]
    for run in runs:
        await apply_run(kafka, run, trajectory_builder=BUILDER, batching=NO_BATCHES)
    for run, codec in FOREIGN.items():
        await asyncio.to_thread(send, kafka, _events(run), codec, TIMES)
    try:
        for run, codec in BY_BROKER.items():
            await asyncio.to_thread(compress_topic, kafka, codec)
            await _publish(kafka, run)
    finally:
        await asyncio.to_thread(compress_topic, kafka, "producer")
    await _publish(kafka, OURS)

    closed = await _closed(kafka, runs)
    assert len(closed[OURS]) == EXAMPLES
    assert {reason for reason, _ in closed[OURS].values()} == set(CloseReason)
    assert closed == dict.fromkeys(runs, closed[OURS])
    for topic in ("ttc.events.dlq", "ttc.candidates.dlq"):
        letters = await read_all(kafka, topic, undecodable=True)
        assert [letter for letter in letters if (letter.key or b"").startswith(b"clients-")] == []
    await _lie_where_librdkafka_puts_them(kafka)


def _events(run: str) -> Iterator[Event]:
    """Yield turns that are closed by count, by either marker, and by silence."""
    for number in range(EXAMPLES):
        place = {"run_id": run, "example_id": f"e{number}"}
        for index in range(3):
            yield TTCCandidate(
                **place,
                turn_id="t",
                candidate_id=str(index),
                candidate_index=index,
                prompt=f"prompt {number} " + "wörds " * 20,
                response=f"answer {index}",
                score=(number * 7 + index * 5) % 11 + index / 8,
                expected_candidates=3 if number % 4 == 0 else None,
            )
        if number % 4 == 1:
            yield TTCTurnEnd(**place, turn_id="t")
        elif number % 4 == 2:
            yield TTCExampleEnd(**place)


async def _publish(kafka: KafkaSettings, run: str) -> None:
    async with TTCPublisher(kafka) as publisher:
        for event in _events(run):
            await publisher.publish(event)


async def _closed(kafka: KafkaSettings, runs: Sequence[str]) -> dict[str, Closed]:
    """Return how the turn of each run's examples was closed, and its pairs."""

    def of_runs(records: list[ConsumerRecord]) -> dict[TurnKey, list[bytes]]:
        return {turn: bodies for turn, bodies in bodies_by_turn(records).items() if turn[0] in runs}

    def enough(records: list[ConsumerRecord]) -> bool:
        return len(of_runs(records)) >= EXAMPLES * len(runs)

    found: dict[str, Closed] = {run: {} for run in runs}
    for (run, example, _), bodies in of_runs(await read_until(kafka, "trajectories", enough)).items():
        (body,) = bodies
        group = read_group(body)
        items = [(one.episode[0], one.reward) for one in group.trajectories]
        pairs = sorted((item.chosen_response, item.rejected_response, reward) for item, reward in items)  # type: ignore[union-attr]
        found[run][example] = (str(group.closed_by), pairs)
    return found


async def _lie_where_librdkafka_puts_them(kafka: KafkaSettings) -> None:
    """Its events are elsewhere than ours would be, and what comes of them stays in their partition."""
    count = await partition_count(kafka, kafka.topic("ttc.events"))
    (run, *_) = FOREIGN
    wanted = {f"e{number}": partition_of(run, f"e{number}", count) for number in range(EXAMPLES)}
    ours = {example: partition_for(encode_key(run, example), count) for example in wanted}
    assert wanted != ours
    for topic in ("ttc.events", "ttc.candidates"):
        records = await read_all(kafka, topic, run=run)
        found = {record.key.decode().split("/")[1]: record.partition for record in records}
        assert found == wanted, topic
