"""Bodies that are made without validation are what validation would have made."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.domain.collector.normaliser import normalise_native
from tunestream.domain.turns.group_rules import GroupRules
from tunestream.domain.turns.members import fingerprints
from tunestream.domain.turns.open_turn import OpenTurn
from tunestream.domain.turns.turn_group import expanded_group, group_of_turn
from tunestream.events.groups import PreferenceGroup
from tunestream.events.messages import OpenAIMessage
from tunestream.events.trajectories import CloseReason, TrajectoryGroup
from tunestream.events.ttc import CandidateStep, TTCCandidate
from tunestream.events.views.candidates import SingleView

PROMPTS = st.just("p") | st.just([OpenAIMessage(role="user", content="p")])
CANDIDATES = st.builds(
    TTCCandidate,
    run_id=st.just("run"),
    example_id=st.just("example"),
    turn_id=st.just("turn"),
    candidate_id=st.uuids().map(str),
    candidate_index=st.none() | st.integers(0, 9),
    prompt=PROMPTS,
    response=st.text(max_size=5),
    score=st.floats(-10, 10),
    expected_candidates=st.none() | st.integers(1, 9),
    policy_version=st.none() | st.sampled_from("ab"),
    metadata=st.none() | st.dictionaries(st.text(max_size=3), st.integers() | st.floats(-1, 1), max_size=2),
)


@given(CANDIDATES)
def test_a_candidate_is_valid(event: TTCCandidate) -> None:
    step = normalise_native(event)
    again = CandidateStep.model_validate_json(step.to_json())
    assert again == step
    assert again.to_json() == step.to_json()


@given(st.lists(CANDIDATES, min_size=1, max_size=6), st.booleans(), st.booleans())
def test_a_group_is_valid(events: list[TTCCandidate], exhaustive: bool, from_diff: bool) -> None:
    rules: dict[str, Any] = {"exhaustive_pairs": exhaustive, "reward_from_score_diff": from_diff}
    turn_rules = GroupRules.of(DPOTrajectoryBuilderConfig.model_validate(rules))
    turn = OpenTurn("digest", turn_rules, 0)
    for event in events:
        step = normalise_native(event)
        assert isinstance(step, CandidateStep)
        part = SingleView.of(step)
        turn.accept(part, part.candidates, fingerprints(part.candidates), step.to_json(), 0)
    value = group_of_turn(turn, "run", "example", "turn", CloseReason.TURN_END).encode()
    group = PreferenceGroup.model_validate_json(value)
    assert group.to_json() == value
    expanded = expanded_group(value)
    again = TrajectoryGroup.model_validate_json(expanded.to_json())
    assert again == expanded
    assert again.to_json() == expanded.to_json()
