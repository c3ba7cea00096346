"""The collector's clock: what moves it, and when silence ticks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.runs import run_config
from tunestream.domain.collector.core import Collector
from tunestream.domain.effects import Effects, Outbound
from tunestream.events.ttc import Tick, TurnEnd

# turn_timeout, the longer of max_wait and flush_after, and two ticks
LONGEST = 30_000 + 60_000 + 2_000
CONFIG = run_config("run", trajectory_builder={"turn_timeout": "30s"})
START = 1_800_000_000_000
WALL = START + 7_000


def _take(collector: Collector, time: int | None, now: float, run: str = "run") -> Effects:
    effects = Effects()
    body = TurnEnd(run_id=run, example_id="e", turn_id="t")
    collector.advance(time, now)
    collector.take(body, CONFIG, CONFIG.digest, effects)
    collector.keep_pace(effects)
    collector.settle(effects)
    return effects


def _tick(collector: Collector, now: float) -> list[Outbound]:
    effects = Effects()
    collector.tick(now, WALL, effects)
    collector.settle(effects)
    return effects.outbound


def test_everything_goes_to_the_records_own_partition_at_the_brokers_time() -> None:
    (output,) = _take(Collector(3), START, 0.0).outbound
    assert (output.partition, output.time, output.key) == (3, START, ("run", "e"))


def test_silence_of_a_second_ticks_with_the_time_that_passed() -> None:
    collector = Collector(3)
    _take(collector, START, now=50.0)
    assert not collector.silent(50.9)
    assert collector.silent(51.0)
    (tick,) = _tick(collector, now=51.25)
    assert (tick.time, tick.partition, tick.body) == (START + 1_250, 3, Tick(run_id="*"))
    assert not collector.silent(52.0), "at most one tick a second"
    assert collector.silent(52.25)


def test_ticks_go_on_for_ever_but_slower_when_nothing_waits() -> None:
    collector = Collector(0)
    _take(collector, START, now=0.0)
    now, last = 0.0, 0
    while collector.silent(now + 1.0):
        now += 1.0
        last = _tick(collector, now)[0].time
    assert last == START + LONGEST
    for _ in range(3):
        assert not collector.silent(now + 9.9)
        now += 10.0
        assert collector.silent(now)
        (tick,) = _tick(collector, now)
        last += 10_000
        assert tick.time == last
    _take(collector, START + 1_000_000, now=now)
    assert collector.silent(now + 1.0), "a new record makes them quick again"


def test_ticks_are_quick_until_live_scores_are_due() -> None:
    config = run_config("run", evaluation={"live": {"every": "10m"}})
    collector, effects = Collector(0), Effects()
    collector.advance(START, 0.0)
    collector.take(TurnEnd(run_id="run", example_id="e", turn_id="t"), config, config.digest, effects)
    _tick(collector, now=600.0)
    assert collector.silent(601.0), "the last turn may close long after its last event"


def test_a_partition_that_never_had_a_record_ticks_and_its_first_record_makes_no_jump() -> None:
    """Groups of other partitions may wait for its clock at the gate."""
    collector = Collector(1)
    collector.resume(100.0)
    assert not collector.silent(109.9)
    assert collector.silent(110.0)
    assert _tick(collector, 110.0)[0].time == WALL
    assert _tick(collector, 120.0)[0].time == WALL + 10_000
    (output,) = _take(collector, WALL - 3_600_000, now=121.0).outbound
    assert output.time == WALL + 10_000, "the broker's clock is an hour behind this machine's"


def test_an_old_backlog_is_not_behind_a_clock_that_began_before_it() -> None:
    collector = Collector(1)
    collector.resume(100.0)
    assert _take(collector, START - 86_400_000, now=101.0).outbound[0].time == START - 86_400_000


def test_records_that_give_nothing_carry_time_on() -> None:
    collector, effects = Collector(2), Effects()
    _take(collector, START, now=0.0)
    for step in range(1, 26):
        collector.advance(START + 100 * step, 0.1 * step)
        collector.keep_pace(effects)
        assert not collector.silent(0.1 * step + 0.9)
    assert [(tick.body, tick.time) for tick in effects.outbound] == [
        (Tick(run_id="*"), START + 1_000),
        (Tick(run_id="*"), START + 2_000),
    ]


def test_a_record_without_the_brokers_time_moves_nothing() -> None:
    collector = Collector(0)
    _take(collector, START, now=0.0)
    assert _take(collector, None, now=0.5).outbound[0].time == START
    assert _tick(collector, now=1.5)[0].time == START + 1_500


def test_a_replay_takes_time_from_records_alone() -> None:
    collector = Collector(0, replay=True)
    collector.resume(0.0)
    _take(collector, START, now=0.0)
    assert not collector.silent(1e6)


def test_the_clocks_of_an_earlier_release_are_dropped() -> None:
    collector = Collector(0)
    collector.restore(b"run", b"%d %d" % (START + 4_000, START + 99_000))
    collector.resume(0.0)
    effects = _take(collector, START, now=0.0)
    assert effects.outbound[0].time == START
    assert effects.changes[b"run"] is None
    assert effects.changes.keys() == {b"run", b"*", b"*log"}


def test_an_earlier_release_goes_on_with_the_clock_of_each_run() -> None:
    """Without it, a quiet run gets no tick from it, and an open turn of the run waits for ever."""
    collector = Collector(0)
    collector.restore(b"before", b"%d %d" % (START - 4_000, START + 99_000))
    collector.resume(0.0)
    for run, time in (("quiet", START), ("r/n", START + 5)):
        _take(collector, time, now=0.0, run=run)
    effects = Effects()
    collector.settle(effects, by_run=True)
    assert effects.changes == {}, "nothing moved since"

    collector.advance(START + 50, 0.0)
    collector.take(TurnEnd(run_id="r/n", example_id="e", turn_id="t"), CONFIG, CONFIG.digest, effects)
    collector.settle(effects, by_run=True)
    assert effects.changes[b"r%2Fn"] == b"%d %d" % (START + 50, START + 50 + LONGEST)
    assert b"before" not in effects.changes

    collector.settle(effects)
    assert effects.changes[b"r%2Fn"] is None, "once the upgrade is finished"


def test_an_earlier_release_reads_the_clock_as_two_runs_without_a_deadline() -> None:
    """It takes two numbers under any key; the second run's must not be before its first."""
    collector = Collector(0)
    changes = _take(collector, START, now=0.0).changes
    times = {key: [int(part) for part in (value or b"").split()] for key, value in changes.items()}
    assert times[b"*"] == [START, START + LONGEST]
    assert times[b"*log"][0] > times[b"*log"][1]


EVENTS = st.sampled_from(["record", "late record", "tick"])


@given(st.lists(st.tuples(EVENTS, st.integers(0, 20_000)), max_size=30), st.integers(0, 29))
def test_a_restart_changes_no_later_tick(steps: list[tuple[str, int]], at: int) -> None:
    collector, log = Collector(0), dict[bytes, bytes | None]()
    now, broker = 0.0, START
    for number, (kind, step) in enumerate(steps):
        if number == at:
            restored = Collector(0)
            for key, value in log.items():
                assert value is not None
                restored.restore(key, value)
            restored.resume(now)
            collector.resume(now)
            assert [restored.silent(now + wait) for wait in (1, 9, 10)] == [
                collector.silent(now + wait) for wait in (1, 9, 10)
            ]
            if log:
                assert _tick(restored, now + 1.0) == _tick(collector, now + 1.0)
            now += 1.0
            collector = restored
        now += step / 1000
        broker += step if kind != "late record" else -step
        effects = Effects()
        if kind == "tick":
            collector.tick(now, broker, effects)
            collector.settle(effects)
        else:
            effects = _take(collector, broker, now)
        log |= effects.changes
