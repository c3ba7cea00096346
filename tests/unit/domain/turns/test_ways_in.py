"""Whichever way candidates come, whole, in parts, one by one or again, their group is the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.domain.turns.test_core import Core, Event, group_of
from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.domain.effects import Outbound, Spliced
from tunestream.events.groups import PreferenceGroup
from tunestream.events.messages import ChatMessage, OpenAIMessage
from tunestream.events.runs import TURN_FORMAT
from tunestream.events.trajectories import TrajectoryGroup
from tunestream.events.ttc import CandidateStep, Tick
from tunestream.events.turns import TurnMember, TurnStep

CONFIG = DPOTrajectoryBuilderConfig()
NAMES = {"run_id": "r", "example_id": "e", "turn_id": "t"}
PLAIN = [OpenAIMessage(role="user", content='"q" é\n')]
CALLED = [*PLAIN, ChatMessage(role="tool", content="1", tool_call_id="c")]
MEMBERS: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    candidate_index=st.none() | st.integers(0, 3),
    response=st.sampled_from(["a", "b", 'é "\\\n'])
    | st.just(ChatMessage(role="assistant", content="", name="n")),
    score=st.sampled_from([0.0, -0.0, 0.5, 1e300, -1.25]),
    policy_version=st.none() | st.sampled_from(["v1", "v2"]),
    token_ids=st.none() | st.just([1, 2]),
    raw_metadata=st.just({}) | st.just({"a": [1, {"b": None}], "é": 1.5}),
)
TURNS = st.lists(MEMBERS, min_size=1, max_size=6).map(
    lambda found: [TurnMember(candidate_id=f"c{at}", **one) for at, one in enumerate(found)]
)
CONTEXTS = st.sampled_from(
    [
        {"prompt": "p"},
        {"prompt": PLAIN},
        {"prompt": CALLED},
        {
            "prompt": CALLED,
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "prompt_token_ids": [7],
        },
    ]
)


def record(context: dict[str, Any], members: list[TurnMember], *, complete: bool, single: bool) -> Event:
    """Return the record of some members: a single candidate where it is to be one and can be."""
    found = TurnStep(**NAMES, **context, candidates=members, complete=complete)
    member, *others = members
    if others or complete or not single or member.token_ids or len(context) > 1:
        return found
    if not isinstance(member.response, str):
        return found
    values = {name: value for name, value in vars(member).items() if name != "token_ids"}
    return CandidateStep.model_validate({**NAMES, **context, **values})


def records(
    context: dict[str, Any], members: list[TurnMember], cuts: list[bool], singles: list[bool]
) -> Iterator[Event]:
    places = [0, *(at for at in range(1, len(members)) if cuts[at]), len(members)]
    for first, last in pairwise(places):
        complete = last == len(members)
        yield record(context, members[first:last], complete=complete, single=singles[first])


def groups(
    sent: list[Event], restarts: list[bool], config: DPOTrajectoryBuilderConfig = CONFIG
) -> list[Outbound]:
    core, found = Core(config), []
    for at, event in enumerate(sent):
        outcome, effects = core.send(event, 1000)
        assert outcome == "ok"
        found += [output for output in effects.outbound if not isinstance(output.body, Tick)]
        if restarts[at % len(restarts)]:
            core.restart(at)
    assert core.builder.open_turns == 0
    return found


FLAGS = st.lists(st.booleans(), min_size=6, max_size=6)


@given(CONTEXTS, TURNS, FLAGS, FLAGS, FLAGS, FLAGS)
def test_the_group_is_the_same_whichever_way_its_candidates_come(
    context: dict[str, Any],
    members: list[TurnMember],
    cuts: list[bool],
    singles: list[bool],
    again: list[bool],
    restarts: list[bool],
) -> None:
    parts = list(records(context, members, cuts, singles))
    sent = [event for at, part in enumerate(parts) for event in [part, *[part] * again[at]]]
    sent += [record(context, [member], complete=False, single=singles[0]) for member in members]
    whole = TurnStep(**NAMES, **context, candidates=members, complete=True)
    (wanted,) = groups([whole], [False])
    assert groups([*sent, whole], restarts) == [wanted]
    assert isinstance(wanted.body, Spliced)
    assert PreferenceGroup.model_validate_json(wanted.body.value).to_json() == wanted.body.value


@given(CONTEXTS, TURNS, FLAGS)
def test_a_group_that_is_spelt_out_holds_what_the_compact_one_unfolds_to(
    context: dict[str, Any], members: list[TurnMember], flags: list[bool]
) -> None:
    whole = TurnStep(**NAMES, **context, candidates=members, complete=True)
    rules = {"exhaustive_pairs": flags[0], "reward_from_score_diff": flags[1], "nat_parity": flags[2]}
    config = DPOTrajectoryBuilderConfig.model_validate(rules)
    (compact,) = groups([whole], [False], config)
    (expanded,) = groups([whole], [False], config.model_copy(update={"wire": "expanded"}))
    group, spelt_out = group_of(compact), expanded.body
    assert isinstance(spelt_out, TrajectoryGroup)
    again = TrajectoryGroup.model_validate_json(spelt_out.to_json())
    assert isinstance(group, PreferenceGroup)
    assert (again.trajectories, again.scores, again.skipped) == (
        group.trajectories,
        group.scores,
        group.skipped,
    )
    for trajectory, (chosen, rejected, reward) in zip(again.trajectories, group.pairs, strict=True):
        item = trajectory.episode[0]
        assert (item.prompt, item.tools) == (whole.prompt, whole.tools)  # type: ignore[union-attr]
        assert [item.chosen_token_ids, item.rejected_token_ids] == [  # type: ignore[union-attr]
            members[chosen].token_ids,
            members[rejected].token_ids,
        ]
        assert trajectory.reward == reward


@given(TURNS)
def test_before_the_format_of_turns_single_candidates_make_groups_of_version_1(
    members: list[TurnMember],
) -> None:
    plain = [one.model_copy(update={"token_ids": None, "response": str(one.response)}) for one in members]
    sent = [record({"prompt": "p"}, [one], complete=False, single=True) for one in plain]
    last = sent[-1]
    assert isinstance(last, CandidateStep)
    sent[-1] = last.model_copy(update={"expected_candidates": len(sent)})
    core = Core(CONFIG, number=TURN_FORMAT - 1)
    for event in sent[:-1]:
        _, effects = core.send(event, 1000)
        assert [value for value in effects.changes.values() if value != b"1000 -1"] == [event.to_json()]
    _, effects = core.send(sent[-1], 1000)
    old = effects.outbound[-1].body
    assert isinstance(old, TrajectoryGroup)
    (new,) = groups([TurnStep(**NAMES, prompt="p", candidates=plain, complete=True)], [False])
    assert group_of(new).trajectories == old.trajectories


@pytest.mark.parametrize("number", [TURN_FORMAT - 1, TURN_FORMAT])
def test_state_of_the_format_before_is_taken_over_by_the_next(number: int) -> None:
    """An upgrade between any two candidates changes nothing, and repeats are known across it."""
    members = [TurnMember(candidate_id=f"c{at}", response=f"{at}", score=at) for at in range(4)]
    singles = [record({"prompt": PLAIN}, [one], complete=False, single=True) for one in members]
    core = Core(CONFIG, number=TURN_FORMAT - 1)
    core.send(singles[0], 1000)
    core.send(singles[1], 1000)
    core.number = number
    core.restart()
    assert core.send(singles[1], 1000)[1].counts == {"duplicate": 1}
    core.send(singles[2], 1000)
    core.restart()
    last = singles[3]
    assert isinstance(last, CandidateStep)
    last = last.model_copy(update={"expected_candidates": 4})
    _, effects = core.send(last, 1000)
    assert [member.id for member in group_of(effects.outbound[-1]).scores] == ["c0", "c1", "c2", "c3"]
    for later in (number, TURN_FORMAT):
        core.number = later
        core.restart()
        assert [core.send(one, 1000)[1].counts["duplicate"] for one in [*singles[:3], last]] == [1] * 4
