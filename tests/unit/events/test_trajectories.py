"""Trajectories, statuses and curriculum states: the bounds that training relies on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tunestream.events.messages import OpenAIMessage
from tunestream.events.training import CurriculumState, TrainingJobStatus, TrainingStatusEnum
from tunestream.events.trajectories import (
    DPOItem,
    EpisodeItem,
    EpisodeItemRole,
    Trajectory,
    TrajectoryCollection,
)
from tunestream.events.ttc import TTCCandidate

FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MESSAGES = st.lists(st.builds(OpenAIMessage, role=TEXT, content=TEXT), max_size=3)
PREFERENCES = st.lists(
    st.builds(DPOItem, prompt=TEXT | MESSAGES, chosen_response=TEXT, rejected_response=TEXT), max_size=2
)
ITEMS = st.lists(
    st.builds(
        EpisodeItem,
        role=st.sampled_from(EpisodeItemRole),
        content=TEXT,
        logprobs=st.fixed_dictionaries({"content": st.lists(FINITE, max_size=2)}),
    ),
    max_size=3,
)
TRAJECTORIES = st.builds(
    Trajectory,
    episode=PREFERENCES | ITEMS,
    reward=FINITE,
    shaped_rewards=st.none() | st.lists(FINITE, max_size=3),
    metadata=st.none() | st.dictionaries(TEXT, TEXT | FINITE | st.none(), max_size=3),
)
NOT_FINITE = [float("nan"), float("inf"), float("-inf")]


@given(st.lists(st.lists(TRAJECTORIES, max_size=2), max_size=2), TEXT)
def test_a_collection_is_read_as_it_was_written(trajectories: list[list[Trajectory]], run_id: str) -> None:
    collection = TrajectoryCollection(trajectories=trajectories, run_id=run_id)
    assert TrajectoryCollection.model_validate_json(collection.to_json()) == collection


@pytest.mark.parametrize("logprobs", [None, ...])
def test_an_assistant_needs_logprobs(logprobs: object) -> None:
    given_ones = {} if logprobs is ... else {"logprobs": logprobs}
    with pytest.raises(ValidationError, match=r"logprobs must be provided for assistant role\."):
        EpisodeItem.model_validate({"role": "assistant", "content": "c"} | given_ones)


@pytest.mark.parametrize("role", sorted(set(EpisodeItemRole) - {EpisodeItemRole.ASSISTANT}))
def test_nobody_else_needs_logprobs(role: EpisodeItemRole) -> None:
    assert EpisodeItem(role=role, content="").logprobs is None


@pytest.mark.parametrize("logprobs", [{}, [], [-0.5, 0], {"content": [{"token": "a", "logprob": -1e300}]}])
def test_logprobs_of_any_shape_are_kept(logprobs: object) -> None:
    item = EpisodeItem(role=EpisodeItemRole.ASSISTANT, content="c", logprobs=logprobs)
    assert EpisodeItem.model_validate_json(item.to_json()).logprobs == logprobs


@pytest.mark.parametrize("number", NOT_FINITE)
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [0.0, x], lambda x: {"content": [{"logprob": x}]}])
def test_logprobs_are_finite(wrap: Any, number: float) -> None:
    """As null on the wire they would be lost in silence."""
    with pytest.raises(ValidationError, match="finite") as caught:
        EpisodeItem(role=EpisodeItemRole.ASSISTANT, content="c", logprobs=wrap(number))
    assert caught.value.errors()[0]["type"] == "finite_number"


@pytest.mark.parametrize("number", NOT_FINITE)
@pytest.mark.parametrize("field", ["reward", "shaped_rewards"])
def test_rewards_are_finite(field: str, number: float) -> None:
    values = {"episode": [], "reward": 0.0, field: [number] if field == "shaped_rewards" else number}
    with pytest.raises(ValidationError, match="finite"):
        Trajectory.model_validate(values)


def test_preferences_and_messages_are_not_mixed() -> None:
    preference = {"prompt": "p", "chosen_response": "a", "rejected_response": "b"}
    message = {"role": "user", "content": "c"}
    with pytest.raises(ValidationError):
        Trajectory.model_validate({"episode": [preference, message], "reward": 0.0})


@pytest.mark.parametrize("count", [0, -1])
def test_at_least_one_candidate_is_expected(count: int) -> None:
    with pytest.raises(ValidationError, match="expected_candidates"):
        TTCCandidate(
            run_id="r",
            example_id="e",
            turn_id="t",
            candidate_id="c",
            prompt="p",
            response="r",
            score=0.0,
            expected_candidates=count,
        )


def status(progress: float | None) -> TrainingJobStatus:
    return TrainingJobStatus(
        run_id="r",
        backend="trl",
        status=TrainingStatusEnum.RUNNING,
        progress=progress,
        job_id="j",
        sequence=0,
        time=datetime(2026, 1, 1, tzinfo=UTC),
    )


@given(st.none() | st.floats(0, 100))
def test_progress_is_per_cent(progress: float | None) -> None:
    assert status(progress).progress == progress


@pytest.mark.parametrize("progress", [-1e-9, 100.00001, 250.0, *NOT_FINITE])
def test_progress_is_bounded(progress: float) -> None:
    with pytest.raises(ValidationError, match="progress"):
        status(progress)


def test_a_status_says_when_with_an_offset() -> None:
    values = status(None).model_dump() | {"time": datetime(2026, 1, 1)}  # noqa: DTZ001
    with pytest.raises(ValidationError, match="timezone"):
        TrainingJobStatus.model_validate(values)


def test_statuses_are_the_references() -> None:
    assert [state.value for state in TrainingStatusEnum] == [
        "pending",
        "running",
        "completed",
        "failed",
        "canceled",
    ]


def test_a_curriculum_begins_where_the_references_does() -> None:
    assert CurriculumState(current_percentile=0.3).model_dump() == {
        "current_percentile": 0.3,
        "last_expansion_epoch": -1,
        "total_groups": 0,
        "included_groups": [],
    }


@pytest.mark.parametrize("percentile", [0.0, -0.1, 1.1, *NOT_FINITE])
def test_a_percentile_is_a_share(percentile: float) -> None:
    with pytest.raises(ValidationError, match="current_percentile"):
        CurriculumState(current_percentile=percentile)
