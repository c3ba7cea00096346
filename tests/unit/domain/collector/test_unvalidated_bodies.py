"""Bodies that are made without validation are what validation would have made."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.domain.collector.normaliser import normalise_native
from tunestream.domain.turns.group_rules import GroupRules
from tunestream.domain.turns.open_group import OpenGroup
from tunestream.domain.turns.preferences import close_turn
from tunestream.events.messages import OpenAIMessage
from tunestream.events.trajectories import CloseReason, TrajectoryGroup
from tunestream.events.ttc import CandidateStep, TTCCandidate

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
    turn = OpenGroup[CandidateStep]("digest", turn_rules, b"prefix", 0)
    for event in events:
        step = normalise_native(event)
        assert isinstance(step, CandidateStep)
        turn.accept(step, step.candidate_id, 0, 0)
    assert turn_rules.pairing is not None
    group = close_turn(turn, turn_rules.pairing, "run", CloseReason.TURN_END)
    again = TrajectoryGroup.model_validate_json(group.to_json())
    assert again == group
    assert again.to_json() == group.to_json()
