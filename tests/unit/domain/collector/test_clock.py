"""The clock of a partition: monotone, never standing still, and the same with ticks and without."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunestream.domain.collector.clock import PartitionClock

START = 1_800_000_000_000
# From one record to the next, ms: the broker's clock goes on, stands still, or was set back.
STEPS = st.lists(st.integers(0, 60_000) | st.integers(-3_600_000, 3_600_000), max_size=40)
# When ticks come between two records, as parts of the step; and how far they come too late, ms.
PARTS = st.lists(st.floats(0.0, 1.0), max_size=4)
DRIFT = st.integers(0, 1_000)


@given(st.lists(st.tuples(st.integers(-3_600_000, 3_600_000), PARTS, DRIFT), max_size=40))
def test_ticks_and_records_give_the_time_of_records_alone(steps: list[tuple[int, list[float], int]]) -> None:
    alone, both, log = PartitionClock(), PartitionClock(), START
    for step, parts, drift in [(0, [], 0), *steps]:
        for part in sorted(parts):
            both.tick(int(part * max(step, 0)) + drift)
        log += step
        assert 0 <= both.record(log) - alone.record(log) <= 1_000


@given(STEPS)
def test_time_never_goes_back_and_never_stands_still(steps: list[int]) -> None:
    clock, log = PartitionClock(), START
    before = clock.record(log)
    for step in steps:
        log += step
        now = clock.record(log)
        assert now - before >= max(0, step // 2)
        assert now >= log
        before = now


@given(STEPS)
def test_what_was_set_back_is_paid_back(steps: list[int]) -> None:
    clock, log, back = PartitionClock(), START, 0
    clock.record(log)
    for step in steps:
        log += step
        clock.record(log)
        back += max(0, -step)
    assert clock.record(log + 2 * back) == log + 2 * back


def test_small_steps_pay_as_much_as_large_ones() -> None:
    fine, coarse = PartitionClock(), PartitionClock()
    for clock in (fine, coarse):
        clock.record(START)
        clock.record(START - 1_000)
    for step in range(1, 1_001):
        fine.record(START - 1_000 + step)
    assert coarse.record(START) == fine.time == START + 500


@given(STEPS, st.integers(0, 39), st.integers(0, 100_000))
def test_a_restart_changes_nothing(steps: list[int], at: int, elapsed: int) -> None:
    clock, log = PartitionClock(), START
    clock.record(log)
    for number, step in enumerate(steps):
        if number == at:
            clock.tick(elapsed)
            restored = PartitionClock()
            restored.restore(clock.time, clock.to_bytes())
            assert restored.tick(restored.elapsed + 1_000) == clock.tick(clock.elapsed + 1_000)
            clock = restored
        log += step
        clock.record(log)


@given(st.integers(0, 100_000), st.integers(0, 100_000))
def test_what_has_elapsed_is_what_the_tick_said(back: int, elapsed: int) -> None:
    clock = PartitionClock()
    clock.record(START)
    clock.record(START - back)
    before = clock.time
    after = clock.tick(elapsed)
    assert clock.tick(clock.elapsed) == after
    assert after - before >= elapsed // 2
    assert abs(clock.elapsed - elapsed) <= 1


def test_a_clock_begins_with_a_record() -> None:
    with pytest.raises(ValueError, match="begins with a record"):
        PartitionClock().tick(1)
