"""The recording through the running services gives the reference's pairs, by steps and by turn records."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from aiokafka import ConsumerRecord

from tests.helpers import recordings
from tests.helpers.groups import GROUP_TYPES, AnyGroup, read_group
from tests.helpers.log import header, read_until
from tests.helpers.runs import apply_run
from tests.helpers.services import Deployment
from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.events.keys import decode_key
from tunestream.events.turns import TTCTurn, TTCTurnCandidate
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
    by_steps = {f"parity-{name}": case for name, case in recordings.expected().items()}
    by_turns = {f"turn-{name}": case for name, case in by_steps.items()}
    cases = by_steps | by_turns
    for name, case in cases.items():
        builder = case["config"] | {"nat_parity": True}
        await apply_run(deployment.kafka, name, trajectory_builder=builder, batching=NO_BATCHES)
    async with TTCPublisher(deployment.kafka) as publisher:
        await _publish_steps(publisher, by_steps)
        await _publish_turns(publisher, by_turns)
    made: dict[str, dict[tuple[str, str], list[Pair]]] = defaultdict(dict)
    records = await read_until(
        deployment.kafka, "trajectories", lambda found: len(_groups(found, cases)) == TURNS * len(cases)
    )
    for record in _groups(records, cases):
        group = read_group(record.value)
        made[group.run_id][group.example_id, group.turn_id] = _pairs(group)
    for name, case in cases.items():
        wanted: dict[tuple[str, str], list[Pair]] = {turn: [] for turn in made[name]}
        for example, turn, chosen, rejected, reward in case["pairs"]:
            wanted[example, turn].append((chosen, rejected, reward))
        assert made[name] == wanted, name


async def _publish_steps(publisher: TTCPublisher, runs: Iterable[str]) -> None:
    for example, step in recordings.events():
        for run in runs:
            await publisher.nat_step(run, example, _json(step))


async def _publish_turns(publisher: TTCPublisher, runs: Mapping[str, dict[str, Any]]) -> None:
    for run, case in runs.items():
        step_name = DPOTrajectoryBuilderConfig.model_validate(case["config"]).ttc_step_name
        for part in recordings.turn_parts(step_name):
            await publisher.publish(_turn(run, part))


def _turn(run: str, part: recordings.TurnPart) -> TTCTurn:
    first = part.candidates[0]
    return TTCTurn(
        run_id=run,
        example_id=first.example_id,
        turn_id=first.turn_id,
        prompt=first.prompt,
        candidates=[
            TTCTurnCandidate(
                candidate_id=one.candidate_id,
                candidate_index=one.candidate_index,
                response=one.response,
                score=one.score,
            )
            for one in part.candidates
        ],
        complete=part.complete,
    )


def _json(step: dict[str, Any]) -> bytes:
    return json.dumps(step).encode()


def _groups(records: Iterable[ConsumerRecord], runs: Collection[str]) -> list[ConsumerRecord]:
    return [
        one for one in records if decode_key(one.key)[0] in runs and header(one, "ce_type") in GROUP_TYPES
    ]


def _pairs(group: AnyGroup) -> list[Pair]:
    pairs = []
    for trajectory in group.trajectories:
        facts = trajectory.metadata
        assert facts is not None
        pairs.append((facts["chosen_index"], facts["rejected_index"], trajectory.reward))
    return pairs
