"""The recording gives the reference's pairs, step by step and as turn records made of it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

from tests.helpers import recordings
from tests.unit.domain.turns.test_core import Core, Event, group_of
from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.domain.collector.nat_steps import normalise_nat
from tunestream.events.nat import IntermediateStep
from tunestream.events.ttc import CandidateStep, ExampleEnd, Tick
from tunestream.events.turns import TurnMember, TurnStep

pytestmark = recordings.needs_recordings
Turn = tuple[str, str]
Pairs = dict[Turn, list[tuple[int, int, float]]]


@cache
def steps(name: str) -> tuple[CandidateStep | ExampleEnd, ...]:
    found = []
    for example, step in recordings.events():
        event = normalise_nat(
            IntermediateStep.model_validate(step),
            run_id="r",
            example_id=example,
            ttc_step_name=name,
            parity=True,
        )
        if event is not None:
            assert isinstance(event, CandidateStep | ExampleEnd)
            found.append(event)
    return tuple(found)


def as_turns(singles: tuple[CandidateStep | ExampleEnd, ...]) -> Iterator[TurnStep]:
    """Return a record of each turn; candidates of another prompt come in a part of their own."""
    turns: dict[Turn, list[CandidateStep]] = {}
    for one in singles:
        if isinstance(one, CandidateStep):
            turns.setdefault((one.example_id, one.turn_id), []).append(one)
    for (example, turn), members in turns.items():
        for at, one in enumerate(members):
            values = {name: value for name, value in vars(one).items() if name in TurnMember.model_fields}
            yield TurnStep(
                run_id="r",
                example_id=example,
                turn_id=turn,
                prompt=one.prompt,
                candidates=[TurnMember(**values)],
                complete=at == len(members) - 1,
            )


def joined(parts: Iterator[TurnStep]) -> Iterator[TurnStep]:
    """Join the parts of a turn that answer the same prompt."""
    last: TurnStep | None = None
    for part in parts:
        same = ("example_id", "turn_id", "prompt")
        if last is not None and all(getattr(last, name) == getattr(part, name) for name in same):
            update = {"candidates": [*last.candidates, *part.candidates], "complete": part.complete}
            last = last.model_copy(update=update)
        else:
            if last is not None:
                yield last
            last = part
    if last is not None:
        yield last


def pairs_of(events: list[Event], config: DPOTrajectoryBuilderConfig) -> Pairs:
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
    singles = steps(config.ttc_step_name)
    made = pairs_of(list(joined(as_turns(singles))) if whole else list(singles), config)
    wanted: Pairs = {turn: [] for turn in made}
    for example, turn, chosen, rejected, reward in case["pairs"]:
        wanted[example, turn].append((chosen, rejected, reward))
    assert made == wanted
    assert len(made) == 1211
