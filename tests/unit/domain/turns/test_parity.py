"""The recording gives the reference's pairs, step by step and as turn records made of it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.helpers import recordings
from tests.unit.domain.turns.test_core import Core, Event, group_of
from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.events.ttc import CandidateStep, Tick
from tunestream.events.turns import TurnMember, TurnStep

pytestmark = recordings.needs_recordings
Turn = tuple[str, str]
Pairs = dict[Turn, list[tuple[int, int, float]]]


def record(part: recordings.TurnPart) -> TurnStep:
    first = part.candidates[0]
    return TurnStep(
        run_id="r",
        example_id=first.example_id,
        turn_id=first.turn_id,
        prompt=first.prompt,
        candidates=[_member(one) for one in part.candidates],
        complete=part.complete,
    )


def _member(one: CandidateStep) -> TurnMember:
    return TurnMember(**{name: value for name, value in vars(one).items() if name in TurnMember.model_fields})


def pairs_of(events: Iterable[Event], config: DPOTrajectoryBuilderConfig) -> Pairs:
    core, made = Core(config), Pairs()
    for number, event in enumerate(events):
        outcome, effects = core.send(event, 1000 + number)
        assert outcome == "ok"
        for output in effects.outbound:
            if not isinstance(output.body, Tick):
                group = group_of(output)
                facts = [(one.metadata or {}, one.reward) for one in group.trajectories]
                made[group.example_id, group.turn_id] = [
                    (one["chosen_index"], one["rejected_index"], reward) for one, reward in facts
                ]
    assert core.builder.open_turns == 0
    return made


@pytest.mark.parametrize("name", sorted(recordings.expected()) if recordings.FOLDER.is_dir() else [])
@pytest.mark.parametrize("wire", ["compact", "expanded"])
@pytest.mark.parametrize("whole", [False, True])
def test_the_pairs_are_the_references(name: str, wire: str, whole: bool) -> None:
    case = recordings.expected()[name]
    values = case["config"] | {"nat_parity": True, "wire": wire, "turn_timeout": "1d"}
    config = DPOTrajectoryBuilderConfig.model_validate(values)
    step_name = config.ttc_step_name
    sent = map(record, recordings.turn_parts(step_name)) if whole else recordings.steps(step_name)
    made = pairs_of(sent, config)
    wanted: Pairs = {turn: [] for turn in made}
    for example, turn, chosen, rejected, reward in case["pairs"]:
        wanted[example, turn].append((chosen, rejected, reward))
    assert made == wanted
    assert len(made) == 1211
