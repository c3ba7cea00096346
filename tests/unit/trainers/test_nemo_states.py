"""Whatever the customizer says, a watch ends, and what it tells is in order."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunestream.domain.jobs.lifecycle import TRANSITIONS
from tunestream.events.training import TrainingStatusEnum
from tunestream.trainers.nemo.settings import NeMoSettings
from tunestream.trainers.nemo.states import TERMINAL, Verdict, Watch
from tunestream.trainers.nemo.views import StatusView

SETTINGS = NeMoSettings(stall_timeout=1000, unknown_timeout=100, cancel_timeout=50)
STATES = ["created", "pending", "running", "cancelling", "unknown", "ready-ish", "Running"]
numbers = st.one_of(st.none(), st.floats(), st.integers(), st.text(max_size=3), st.booleans())
answers = st.builds(
    lambda status, percentage: {"status": status, "percentage_done": percentage},
    st.sampled_from(STATES),
    numbers,
)
steps = st.lists(st.tuples(st.floats(0.1, 30), answers, st.booleans()), max_size=40)


def view(**values: Any) -> StatusView:
    return StatusView.model_validate(values)


@given(steps)
def test_progress_is_in_order_and_so_are_the_states(said: list[tuple[float, dict[str, Any], bool]]) -> None:
    now = 0.0
    watch = Watch(SETTINGS, now)
    before = Verdict(TrainingStatusEnum.PENDING, "")
    for passed, answer, cancel in said:
        now += passed
        if cancel:
            watch.cancel(now)
        verdict = watch.judge(view(**answer), now)
        assert verdict.status == before.status or verdict.status in TRANSITIONS[before.status]
        assert (before.progress or 0.0) <= (verdict.progress or 0.0) <= 100.0
        assert (verdict.reason is not None) == (verdict.status in TERMINAL)
        if verdict.status in TERMINAL:
            return
        before = verdict


@given(st.sampled_from(STATES), st.booleans())
def test_no_state_lasts_for_ever(state: str, cancel: bool) -> None:
    watch = Watch(SETTINGS, 0.0)
    if cancel:
        watch.cancel(0.0)
    last = [watch.judge(view(status=state, percentage_done=5), now) for now in (1.0, 49.0, 99.0, 1001.0)][-1]
    assert last.status in TERMINAL
    assert last.reason
    assert state.lower() in last.message or "confirm" in last.message


@pytest.mark.parametrize(
    ("state", "after", "reason"),
    [
        ("unknown", 100.0, "state_unknown"),
        ("cancelling", 50.0, "cancel_unconfirmed"),
        ("running", 1000.0, "stalled"),
        ("pending", 1000.0, "stalled"),
    ],
)
def test_each_deadline_is_its_own(state: str, after: float, reason: str) -> None:
    watch = Watch(SETTINGS, 0.0)
    assert watch.judge(view(status=state), 1.0).reason is None
    assert watch.judge(view(status=state), 0.5 + after).reason is None
    assert watch.judge(view(status=state), 1.0 + after).reason == reason


def test_a_known_state_forgives_an_unknown_one() -> None:
    watch = Watch(SETTINGS, 0.0)
    said = [("unknown", 1.0), ("running", 90.0), ("unknown", 120.0), ("unknown", 219.0)]
    assert [watch.judge(view(status=state), now).reason for state, now in said] == [None] * 4


def test_progress_is_a_change_that_keeps_a_job_from_stalling() -> None:
    watch = Watch(SETTINGS, 0.0)
    for count in range(10):
        verdict = watch.judge(view(status="running", steps_completed=count), count * 900.0)
        assert verdict.reason is None


@pytest.mark.parametrize("number", [math.nan, math.inf, "50", True, [1], None])
def test_numbers_that_are_none_are_not_told(number: Any) -> None:
    assert Watch(SETTINGS, 0.0).judge(view(status="running", percentage_done=number), 1.0).progress is None
