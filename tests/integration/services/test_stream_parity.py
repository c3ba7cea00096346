"""The recording through the running services gives the reference's pairs, turn by turn."""

from __future__ import annotations

from collections import defaultdict

from tests.helpers import recordings
from tests.helpers.groups import AnyGroup, read_group
from tests.helpers.log import read_until
from tests.helpers.runs import apply_run
from tests.helpers.services import Deployment
from tunestream.sdk import TTCPublisher

TURNS = 1211
# No window closes: the deployment's trainer has other tests' jobs to run.
NO_BATCHES = {
    "window_pairs": 1_000_000,
    "min_batch_pairs": 1_000_000,
    "max_wait": "366d",
    "flush_after": "366d",
}
Pair = tuple[int, int, float]


@recordings.needs_recordings
async def test_the_recording_gives_the_references_pairs_per_turn(deployment: Deployment) -> None:
    cases = {f"parity-{name}": case for name, case in recordings.expected().items()}
    for name, case in cases.items():
        builder = case["config"] | {"nat_parity": True}
        await apply_run(deployment.kafka, name, trajectory_builder=builder, batching=NO_BATCHES)
    async with TTCPublisher(deployment.kafka) as publisher:
        for example, step in recordings.events():
            for name in cases:
                await publisher.nat_step(name, example, _json(step))
    made: dict[str, dict[tuple[str, str], list[Pair]]] = defaultdict(dict)
    for name in cases:
        records = await read_until(
            deployment.kafka, "trajectories", lambda found: _groups(found) == TURNS, run=name
        )
        for record in records:
            if record.value and b'"group_id"' in record.value:
                group = read_group(record.value)
                made[group.run_id][group.example_id, group.turn_id] = _pairs(group)
    for name, case in cases.items():
        wanted: dict[tuple[str, str], list[Pair]] = {turn: [] for turn in made[name]}
        for example, turn, chosen, rejected, reward in case["pairs"]:
            wanted[example, turn].append((chosen, rejected, reward))
        assert made[name] == wanted, name


def _json(step: dict[str, object]) -> bytes:
    import json

    return json.dumps(step).encode()


def _groups(records: list[object]) -> int:
    return sum(b'"group_id"' in (getattr(record, "value", None) or b"") for record in records)


def _pairs(group: AnyGroup) -> list[Pair]:
    pairs = []
    for trajectory in group.trajectories:
        facts = trajectory.metadata
        assert facts is not None
        pairs.append((facts["chosen_index"], facts["rejected_index"], trajectory.reward))
    return pairs
