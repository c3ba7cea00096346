"""What turns score, version by version: summaries, their difference, and when they are told."""

from __future__ import annotations

import random
from datetime import timedelta
from functools import reduce
from math import isclose
from statistics import fmean, variance

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunestream.config.run.evaluation import LiveConfig
from tunestream.domain.effects import Effects
from tunestream.domain.gate.bodies import Arrival, arrival_of
from tunestream.domain.models.live import LiveCollector, combine, live_difference, summarise
from tunestream.events.live import LiveScores, ScoreSummary
from tunestream.events.trajectories import CloseReason, MemberScore, TrajectoryGroup

WATCH = LiveConfig(every=timedelta(seconds=10))
SCORES = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40)


def summary(scores: list[float]) -> ScoreSummary:
    return reduce(combine, [ScoreSummary(turns=1, mean=score, squares=0.0) for score in scores])


def turn(name: str, *scores: tuple[float, str | None], digest: str = "d") -> Arrival:
    """A turn without any pair: it counts all the same."""
    group = TrajectoryGroup(
        run_id="r",
        group_id=name,
        example_id="e",
        turn_id=name,
        config_digest=digest,
        kind="preference",
        closed_by=CloseReason.COMPLETE,
        scores=[
            MemberScore(id=str(at), index=at, score=score, policy_version=version)
            for at, (score, version) in enumerate(scores)
        ],
        trajectories=[],
    )
    return arrival_of(group)


@given(SCORES, st.integers(1, 39))
def test_parts_combine_to_the_mean_and_variance_of_the_whole(scores: list[float], cut: int) -> None:
    parts = [part for part in (scores[:cut], scores[cut:]) if part]
    whole = reduce(combine, map(summary, parts))
    assert whole.turns == len(scores)
    assert isclose(whole.mean, fmean(scores), rel_tol=1e-9, abs_tol=1e-6)
    assert isclose(whole.squares / (whole.turns - 1), variance(scores), rel_tol=1e-6, abs_tol=1e-6)


@given(SCORES, SCORES)
def test_the_difference_is_the_same_from_both_sides(first: list[float], second: list[float]) -> None:
    there, back = (live_difference(summary(a), summary(b)) for a, b in ((first, second), (second, first)))
    assert there.low <= there.mean <= there.high
    assert there.mean == -back.mean
    assert there.low == pytest.approx(-back.high)


def test_the_interval_is_welchs() -> None:
    # Variances 1/3 and 4/3, of four turns each.
    gain = live_difference(summary([1, 2, 1, 2]), summary([0, 2, 0, 2]))
    assert gain.mean == 0.5
    assert gain.high - gain.mean == pytest.approx(3 * (1 / 3 / 4 + 4 / 3 / 4) ** 0.5)


def test_many_looks_at_equal_versions_find_hardly_ever_a_difference() -> None:
    rng = random.Random(0)

    def drawn(turns: int) -> ScoreSummary:
        scores = [rng.gauss(0, 1) for _ in range(turns)]
        mean = fmean(scores)
        return ScoreSummary(turns=turns, mean=mean, squares=sum((score - mean) ** 2 for score in scores))

    alarms = 0
    for _ in range(200):
        old, new, worse = drawn(500), drawn(50), False
        for _ in range(20):
            worse = worse or live_difference(new, old).high < 0
            new = combine(new, drawn(25))
        alarms += worse
    assert alarms / 200 < 0.03


def test_a_turn_counts_once_for_each_version_that_answered() -> None:
    found = summarise(turn("t", (0.0, "a"), (1.0, "a"), (5.0, "b"), (9.0, None)))
    assert {name: (one.turns, one.mean) for name, one in found.items()} == {"a": (1, 0.5), "b": (1, 5.0)}


class Site:
    """A collector whose changelog is kept beside it."""

    def __init__(self) -> None:
        self.core = LiveCollector()
        self.log: dict[bytes, bytes] = {}
        self.told: list[tuple[int, LiveScores]] = []
        self.ids: list[str] = []
        self.counts: dict[str, int] = {}

    def send(self, group: Arrival | None, now: int, config: LiveConfig | None = WATCH) -> None:
        effects = Effects()
        due = self.core.due("r")
        if due is not None and due <= now:
            self.core.publish("r", due, effects)
        if group is not None:
            self.core.take(group, config, now, effects)
        for key, value in effects.changes.items():
            if value is None:
                self.log.pop(key, None)
            else:
                self.log[key] = value
        self.counts.update(effects.counts)
        for output in effects.outbound:
            assert isinstance(output.body, LiveScores)
            assert output.topic == "training.batches"
            self.told.append((output.time, output.body))
            self.ids.append(output.id)

    def restart(self) -> None:
        self.core = LiveCollector()
        for value in self.log.values():
            self.core.restore("r", value)


@pytest.mark.parametrize("restart", [False, True])
def test_scores_are_told_in_stream_time_across_a_restart(restart: bool) -> None:
    site = Site()
    for at in range(4):
        site.send(turn(f"t{at}", (float(at), "a"), digest=f"d{at}"), 1000 * at)
        if restart:
            site.restart()
    site.send(None, 9_999)
    assert site.told == []
    site.send(turn("late", (100.0, "a")), 30_000)
    ((time, scores),) = site.told
    assert time == 10_000
    assert scores.config_digest == "d3"
    assert scores.versions["a"] == summary([0.0, 1.0, 2.0, 3.0])
    site.send(None, 40_000)
    assert [scores.versions["a"].turns for _, scores in site.told] == [4, 1]
    assert len(set(site.ids)) == 2
    assert site.log == {}, "nothing is kept of what was told"


def test_nothing_is_kept_of_runs_that_do_not_watch() -> None:
    site = Site()
    site.send(turn("t", (1.0, "a")), 0, None)
    site.send(turn("u", (1.0, None)), 1)
    assert site.log == {}
    site.send(None, 60_000)
    assert site.told == []


def test_versions_that_nobody_trained_do_not_fill_the_state() -> None:
    site = Site()
    for at in range(100):
        site.send(turn(f"t{at}", (1.0, f"v{at}")), 0)
    site.send(None, 10_000)
    assert len(site.told[0][1].versions) == 64
    assert site.counts["dropped_live_scores"] == 1
