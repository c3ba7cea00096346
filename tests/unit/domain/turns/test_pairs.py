"""Pairs against a naive quadratic model of the documented rules."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunestream.domain.turns.pairing import PairedPositions, PairRules
from tunestream.domain.turns.pairs import pair_up


@dataclass(frozen=True)
class Candidate:
    prompt: str
    response: str
    score: float


SCORES = st.sampled_from([0.0, -0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9]) | st.floats(-10, 10)
PROMPTS = st.sampled_from(["p", "q", "r"])
CANDIDATES = st.builds(Candidate, PROMPTS, st.sampled_from("abc"), SCORES)
TURNS = st.lists(CANDIDATES, max_size=9) | st.lists(CANDIDATES, min_size=17, max_size=20)
RULES = st.builds(
    PairRules,
    exhaustive=st.booleans(),
    min_score_diff=st.sampled_from([0.0, 0.1, 0.2, 0.30000000000000004, 1.0]),
    max_pairs=st.none() | st.integers(1, 30),
    require_multiple=st.booleans(),
    filtered=st.booleans(),
)


def make_pairs(turn: list[Candidate], rules: PairRules) -> PairedPositions:
    """Pair up candidates by what pairing asks of them."""
    return pair_up(
        [candidate.score for candidate in turn],
        [candidate.response for candidate in turn],
        [candidate.prompt for candidate in turn],
        rules,
    )


def naive(turn: list[Candidate], rules: PairRules) -> tuple[list[tuple[int, int, float]], dict[str, int]]:
    """Build every pair, in the words of the reference's description."""
    if len(turn) < 2:
        return [], {"single_candidate": 1} if rules.require_multiple else {}
    order = sorted(range(len(turn)), key=lambda at: -turn[at].score)
    made = [(order[i], order[j]) for i in range(len(order)) for j in range(i + 1, len(order))]
    if not rules.exhaustive:
        made = [(order[0], order[-1])]
    kept: list[tuple[int, int, float]] = []
    skipped: dict[str, int] = {}
    for chosen, rejected in made:
        reason = why_not(turn[chosen], turn[rejected], rules)
        if reason:
            skipped[reason] = skipped.get(reason, 0) + 1
        else:
            kept.append((chosen, rejected, turn[chosen].score - turn[rejected].score))
    if rules.exhaustive:
        kept.sort(key=lambda pair: -pair[2])
        if rules.max_pairs is not None and len(kept) > rules.max_pairs:
            skipped["max_pairs"] = len(kept) - rules.max_pairs
            kept = kept[: rules.max_pairs]
    return kept, skipped


@given(TURNS, RULES)
def test_pairs_equal_the_naive_model(turn: list[Candidate], rules: PairRules) -> None:
    pairs = make_pairs(turn, rules)
    expected, skipped = naive(turn, rules)
    assert pairs.kept == expected
    assert pairs.skipped == skipped


def why_not(a: Candidate, b: Candidate, rules: PairRules) -> str | None:
    reasons = {
        "different_prompt": rules.filtered and a.prompt != b.prompt,
        "identical_response": rules.filtered and a.response == b.response,
        "tie": rules.filtered and a.score == b.score,
        "score_diff": a.score - b.score < rules.min_score_diff,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def candidates(*scores: float) -> list[Candidate]:
    return [Candidate("p", f"r{at}", score) for at, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("scores", "least", "diffs"),
    [
        ((0.7, 0.4), 0.3, []),
        ((0.5, 0.2), 0.3, [0.3]),
        ((0.9, 0.7, 0.5), 0.0, [0.4, 0.20000000000000007, 0.19999999999999996]),
    ],
)
def test_differences_are_raw_floats(scores: tuple[float, ...], least: float, diffs: list[float]) -> None:
    pairs = make_pairs(candidates(*scores), PairRules(min_score_diff=least))
    assert [diff for _, _, diff in pairs.kept] == diffs


def test_a_difference_beyond_the_floats_makes_no_pair() -> None:
    pairs = make_pairs(candidates(1e308, 0.0, -1e308), PairRules(filtered=False))
    assert pairs.kept == []
    assert pairs.skipped == {"score_overflow": 3}


class Counted(float):
    """A score that counts how often differences are taken."""

    taken = 0

    def __sub__(self, other: float) -> float:
        Counted.taken += 1
        return float.__sub__(self, other)


@pytest.mark.parametrize("filtered", [True, False])
@pytest.mark.parametrize("response", ["same", "other"])
def test_a_cap_costs_no_quadratic_work(filtered: bool, response: str) -> None:
    Counted.taken = 0
    turn = [Candidate("p", "same" if at % 100 else response, Counted(at * 0.37 % 1)) for at in range(3000)]
    assert len(make_pairs(turn, PairRules(max_pairs=5, filtered=filtered)).kept) <= 5
    assert Counted.taken < 40 * len(turn)
