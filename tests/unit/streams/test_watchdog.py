"""What counts as a stall, what explains it, and when a restart is asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tunestream.streams.watch.watchdog import Judge, Place, Sighting, Stall

PLACE = Place("ttc.events", 3)
FINE = Sighting(PLACE, opened=True, position=10, stable=10, high=10)
MOVED = replace(FINE, position=9, stable=9, high=9)
DEADLINE = 30.0
LOOK = 1.0


def after(seconds: float, *sightings: Sighting, judge: Judge | None = None) -> list[Stall]:
    """Return the stalls after the last sighting was seen for so long, and the others once before."""
    judge = judge or Judge(DEADLINE)
    found: list[Stall] = []
    for seen in sightings[:-1]:
        judge.look([seen], LOOK)
    for _ in range(int(seconds / LOOK) + 1):
        found = judge.look([sightings[-1]], LOOK)
    return found


UNEXPLAINED = {
    "standing": (replace(FINE, stable=17, high=17), "7 offsets wait, up to 17"),
    "unreadable": (
        replace(FINE, fault="CorruptRecordException: x"),
        "cannot be read: CorruptRecordException",
    ),
    "nowhere": (replace(FINE, position=None), "where to read is not known"),
    "beyond": (replace(FINE, position=20), "the topic ends at 10"),
    "unopened": (replace(FINE, opened=False), "nothing opens it"),
}
EXPLAINED = {
    "retried": (replace(FINE, opened=False, waits="partition 3: RuntimeError: x"), "RuntimeError: x"),
    "away": (replace(FINE, stable=None, high=None), "the broker does not answer"),
    "in hand": (
        replace(FINE, high=17, stable=17, waits="its batch is in hand"),
        "its batch is in hand, and 7",
    ),
    "transaction": (replace(FINE, high=15), "an open transaction of a producer at offset 10"),
}


@pytest.mark.parametrize("name", [*UNEXPLAINED, *EXPLAINED])
def test_a_stall_is_reported_after_the_deadline_and_says_why(name: str) -> None:
    seen, reason = (UNEXPLAINED | EXPLAINED)[name]
    assert after(DEADLINE - LOOK, MOVED, FINE, seen) == []
    (stall,) = after(DEADLINE, MOVED, FINE, seen)
    assert stall.place == PLACE
    assert stall.offset == seen.position
    assert reason in str(stall)
    assert "partition 3 of ttc.events stands still" in str(stall)
    assert stall.explained == (name in EXPLAINED)


@pytest.mark.parametrize("name", UNEXPLAINED)
def test_a_restart_is_asked_for_what_moved_and_has_no_explanation(name: str) -> None:
    seen, _ = UNEXPLAINED[name]
    assert [stall.dead for stall in after(4 * DEADLINE - LOOK, MOVED, FINE, seen)] == [False]
    assert [stall.dead for stall in after(4 * DEADLINE, MOVED, FINE, seen)] == [True]
    never = seen if seen.position == 10 else replace(seen, place=Place("ttc.events", 4))
    assert [stall.dead for stall in after(100 * DEADLINE, never)] == [False]


def test_what_moved_before_the_first_look_has_moved() -> None:
    stuck = replace(FINE, high=17, stable=17, moved=True)
    assert [stall.dead for stall in after(4 * DEADLINE, stuck)] == [True]
    assert [stall.dead for stall in after(4 * DEADLINE, replace(stuck, moved=False))] == [False]


@pytest.mark.parametrize("name", EXPLAINED)
def test_no_restart_is_asked_for_what_is_explained(name: str) -> None:
    assert [stall.dead for stall in after(100 * DEADLINE, MOVED, FINE, EXPLAINED[name][0])] == [False]


def test_what_moves_has_not_stalled_however_far_behind() -> None:
    judge = Judge(DEADLINE)
    for offset in range(1000):
        assert judge.look([replace(FINE, position=offset, stable=5000, high=5000)], LOOK) == []


def test_what_is_handled_at_the_end_has_not_stalled() -> None:
    assert after(100 * DEADLINE, FINE) == []


def test_transactions_that_follow_one_another_are_no_stall() -> None:
    judge = Judge(DEADLINE)
    for offset in range(200):
        seen = replace(FINE, position=offset, stable=offset, high=offset + 5)
        assert judge.look([seen], LOOK) == []


def test_an_explanation_that_ends_begins_a_new_count_towards_a_restart() -> None:
    judge = Judge(DEADLINE)
    after(100 * DEADLINE, MOVED, FINE, EXPLAINED["away"][0], judge=judge)
    (stall,) = after(DEADLINE - LOOK, UNEXPLAINED["standing"][0], judge=judge)
    assert (stall.explained, stall.dead, stall.reason) == (True, False, "the broker does not answer")
    (stall,) = after(0, UNEXPLAINED["standing"][0], judge=judge)
    assert (stall.explained, stall.dead, stall.reason) == (False, False, "7 offsets wait, up to 17")
    (stall,) = after(3 * DEADLINE, UNEXPLAINED["standing"][0], judge=judge)
    assert stall.dead


def test_the_moments_in_which_a_retried_fault_is_open_change_nothing() -> None:
    judge = Judge(DEADLINE)
    after(0, MOVED, FINE, judge=judge)
    found: list[Stall] = []
    for _ in range(200):
        fetched = replace(EXPLAINED["retried"][0], position=17)
        for seen in (EXPLAINED["retried"][0], fetched, UNEXPLAINED["standing"][0]):
            found = judge.look([seen], LOOK)
    (stall,) = found
    assert (stall.explained, stall.dead) == (True, False)
    assert "RuntimeError: x" in stall.reason


def test_a_partition_that_went_elsewhere_is_forgotten() -> None:
    judge = Judge(DEADLINE)
    after(DEADLINE, MOVED, UNEXPLAINED["standing"][0], judge=judge)
    assert judge.look([], LOOK) == []
    assert judge.look([UNEXPLAINED["standing"][0]], LOOK) == []
