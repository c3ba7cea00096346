"""What turns score, version by version: summaries, their difference, and when they are told."""

from __future__ import annotations

import json
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
from tunestream.domain.models.live_examples import ExampleTurns
from tunestream.events.keys import decode_key
from tunestream.events.live import ExampleSums, LiveScores, ScoreSummary
from tunestream.events.trajectories import CloseReason, MemberScore, TrajectoryGroup

WATCH = LiveConfig(every=timedelta(seconds=10))
SCORES = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40)


def summary(scores: list[float]) -> ScoreSummary:
    return reduce(combine, [ScoreSummary(turns=1, mean=score, squares=0.0) for score in scores])


def turn(name: str, *scores: tuple[float, str | None], digest: str = "d", example: str = "e") -> Arrival:
    """A turn without any pair: it counts all the same."""
    group = TrajectoryGroup(
        run_id="r",
        group_id=name,
        example_id=example,
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
        self.by_example = False

    def send(self, group: Arrival | None, now: int) -> None:
        effects = Effects()
        due = self.core.due("r")
        if due is not None and due <= now:
            self.core.publish("r", due, effects)
        if group is not None:
            self.core.take(group, WATCH, now, effects, by_example=self.by_example)
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
        for key, value in reversed(self.log.items()):
            _, *place = decode_key(key)
            self.core.restore(place[0], value, *place[1:])


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


def test_nothing_is_kept_of_turns_without_a_version() -> None:
    site = Site()
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


TURNS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("vw"), st.integers(-8, 8)), min_size=1, max_size=20
)


def clusters(turns: list[tuple[str, str, int]], version: str) -> ExampleSums | None:
    """The sums of the model's definition, by hand."""
    found: dict[str, list[int]] = {}
    for example, answered, score in turns:
        if answered == version:
            found.setdefault(example, []).append(score)
    pairs = [(len(scores), sum(scores)) for scores in found.values()]
    if not pairs:
        return None
    return ExampleSums(
        examples=len(pairs),
        turns_squared=sum(n * n for n, _ in pairs),
        scores_squared=sum(s * s for _, s in pairs),
        products=sum(n * s for n, s in pairs),
    )


@given(TURNS, st.booleans())
def test_sums_by_example_are_those_of_the_definition(
    turns: list[tuple[str, str, int]], restart: bool
) -> None:
    site = Site()
    site.by_example = True
    for at, (example, version, score) in enumerate(turns):
        site.send(turn(f"t{at}", (float(score), version), example=example), at)
        if restart:
            site.restart()
    site.send(None, 10_000)
    ((_, scores),) = site.told
    for version, found in scores.versions.items():
        assert found.by_example == clusters(turns, version)
        answered = [score for _, by, score in turns if by == version]
        assert found.turns == len(answered)
        assert found.mean == pytest.approx(fmean(answered))
    assert site.log == {}


def test_the_sums_of_two_summaries_are_added() -> None:
    sums = ExampleSums(examples=1, turns_squared=1.0, scores_squared=4.0, products=2.0)
    one = ScoreSummary(turns=1, mean=2.0, squares=0.0, by_example=sums)
    both = combine(one, one)
    assert both.by_example == ExampleSums(examples=2, turns_squared=2.0, scores_squared=8.0, products=4.0)
    assert combine(one, summary([1.0])).by_example is None, "of some turns the examples are not known"


def test_examples_are_told_apart_as_far_as_there_is_room() -> None:
    examples, log = ExampleTurns("r", most=2), Effects()
    for example in "abab":
        assert examples.add(example, {"v": 1.0}, log) == {}
    let_go = examples.add("c", {"v": 1.0}, log)
    assert let_go == {"v": ExampleSums(examples=1, turns_squared=4.0, scores_squared=4.0, products=4.0)}
    assert log.changes[b"live/r/a"] is None
    assert len(list(examples.sums())) == 2


def test_what_an_earlier_release_reads_has_no_sums() -> None:
    site = Site()
    site.send(turn("t", (1.0, "a")), 0)
    (value,) = site.log.values()
    assert json.loads(value).keys() == {"due", "name", "digest", "versions"}
    site.by_example = True
    site.send(turn("u", (1.0, "a")), 1)
    site.send(None, 10_000)
    assert site.told[0][1].versions["a"] == summary([1.0, 1.0])


@pytest.mark.parametrize("score", [1.7e308, -1e101])
def test_scores_whose_squares_are_no_numbers_do_not_stop_the_gate(score: float) -> None:
    site = Site()
    site.send(turn("t", (score, "a"), (score, "a")), 0)
    assert (site.log, site.counts) == ({}, {"dropped_live_scores": 1})
