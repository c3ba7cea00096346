"""The collector's clock: what agents' clocks may do, and when silence ticks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.runs import run_config
from tunestream.domain.collector.core import Collector
from tunestream.domain.effects import Effects
from tunestream.events.keys import encode_key
from tunestream.events.ttc import Tick, TurnEnd

GRACE = 5_000
# turn_timeout + the longer of max_wait and flush_after + grace twice
LONGEST = 30_000 + 60_000 + 2 * GRACE
CONFIG = run_config("run", trajectory_builder={"turn_timeout": "30s"})


def _take(collector: Collector, time: int, now: float, run: str = "run") -> Effects:
    effects = Effects()
    body = TurnEnd(run_id=run, example_id="e", turn_id="t")
    collector.take(body, CONFIG, CONFIG.digest, time, now, effects)
    collector.settle(effects)
    return effects


def _tick(collector: Collector, now: float) -> Effects:
    effects = Effects()
    collector.tick(now, effects)
    collector.settle(effects)
    return effects


def test_a_fast_clock_is_clamped_and_a_slow_one_is_not() -> None:
    collector = Collector(0, GRACE)
    assert collector.clamp(1_000_000, log_time=10_000) == 10_000 + GRACE
    assert collector.clamp(9_000, log_time=10_000) == 9_000
    assert collector.clamp(None, log_time=10_000) == 10_000


def test_silence_of_a_second_ticks_with_the_time_that_passed() -> None:
    collector = Collector(3, GRACE)
    _take(collector, time=1_000, now=50.0)
    assert not collector.silent(50.9)
    assert collector.silent(51.0)
    effects = _tick(collector, now=51.25)
    assert [(e.time, e.partition, e.key) for e in effects.outbound] == [(2_250, 3, ("run",))]
    assert isinstance(effects.outbound[0].body, Tick)
    assert not collector.silent(52.0), "at most one tick a second"
    assert collector.silent(52.25)


def test_ticks_end_when_the_longest_deadline_has_passed() -> None:
    collector = Collector(0, GRACE)
    _take(collector, time=0, now=0.0)
    now, last = 0.0, 0
    while collector.silent(now + 1.0):
        now += 1.0
        last = _tick(collector, now).outbound[0].time
    assert last == LONGEST
    _take(collector, time=last + 1, now=now)
    assert collector.silent(now + 1.0), "a new record starts them again"


def test_ticks_go_on_until_live_scores_are_due() -> None:
    config = run_config("run", evaluation={"live": {"every": "10m"}})
    collector, effects = Collector(0, GRACE), Effects()
    body = TurnEnd(run_id="run", example_id="e", turn_id="t")
    collector.take(body, config, config.digest, 0, 0.0, effects)
    assert _tick(collector, now=600.0).outbound
    assert collector.silent(601.0), "the last turn may close long after its last event"


def test_only_the_silent_run_ticks() -> None:
    collector = Collector(0, GRACE)
    _take(collector, time=0, now=0.0, run="quiet")
    _take(collector, time=0, now=5.0, run="busy")
    assert [e.key for e in _tick(collector, now=5.5).outbound] == [("quiet",)]


@given(st.lists(st.tuples(st.integers(0, 50_000), st.booleans()), max_size=30), st.integers(0, 29))
def test_a_restart_changes_no_later_tick(steps: list[tuple[int, bool]], at: int) -> None:
    """Records and ticks; a collector restored from its changelog goes on as the first one does."""
    collector, log = Collector(0, GRACE), dict[bytes, bytes | None]()
    now = 0.0
    for number, (time, is_tick) in enumerate(steps):
        if number == at:
            restored = Collector(0, GRACE)
            for key, value in log.items():
                assert value is not None
                restored.restore(key, value)
            restored.resume(now)
            collector.resume(now)
            collector_after, now_after = restored, now + 1.0
            assert collector_after.silent(now_after) == collector.silent(now_after)
            assert _tick(collector_after, now_after).outbound == _tick(collector, now_after).outbound
            now = now_after
            collector = collector_after
        now += 1.0
        effects = _tick(collector, now) if is_tick else _take(collector, time, now)
        log |= effects.changes
    assert set(log) <= {encode_key("run")}
