"""Preference pairs of one turn, best first, without building what a cap throws away."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from tunestream.domain.turns.lazy_pairs import every_pair_lazily
from tunestream.domain.turns.pairing import (
    REASONS,
    C,
    Pairing,
    Pairings,
    PairRules,
    Scored,
    pairs_of,
    why_not,
)

__all__ = ["make_pairs"]

# Up to so many candidates it costs less to look at every pair than to merge lazily.
_FEW: Final = 12


def make_pairs(candidates: Sequence[C], rules: PairRules) -> Pairings[C]:
    """Pair the candidates of one turn, given in order of arrival.

    Exhaustive pairs come by difference, largest first; equal differences by the ranks of chosen and
    rejected, where equal scores rank by arrival. Costs O(n log n + pairs kept), apart from pairs with
    exactly the difference at which a cap cuts.
    """
    if len(candidates) < 2:
        return Pairings([], {"single_candidate": 1} if rules.require_multiple else {})
    ranked = sorted(candidates, key=_score, reverse=True)
    if not math.isfinite(ranked[0].score - ranked[-1].score):
        return Pairings([], {"score_overflow": pairs_of(len(ranked)) if rules.exhaustive else 1})
    if not rules.exhaustive:
        return _best_vs_worst(ranked, rules)
    return _every_pair(ranked, rules) if len(ranked) <= _FEW else every_pair_lazily(ranked, rules)


def _best_vs_worst(ranked: list[C], rules: PairRules) -> Pairings[C]:
    best, worst = ranked[0], ranked[-1]
    diff = best.score - worst.score
    reason = why_not(best, worst, diff, rules)
    return Pairings([], {reason: 1}) if reason else Pairings([Pairing(best, worst, diff)])


def _every_pair(ranked: list[C], rules: PairRules) -> Pairings[C]:
    """Look at every pair: what :func:`every_pair_lazily` finds, sooner when the candidates are few."""
    found: list[Pairing[C]] = []
    refused: list[str] = []
    for rank, chosen in enumerate(ranked, start=1):
        for rejected in ranked[rank:]:
            diff = chosen.score - rejected.score
            reason = why_not(chosen, rejected, diff, rules)
            if reason is None:
                found.append(Pairing(chosen, rejected, diff))
            else:
                refused.append(reason)
    found.sort(key=_difference, reverse=True)
    kept = found[: rules.max_pairs]
    refused += ["max_pairs"] * (len(found) - len(kept))
    return Pairings(kept, {reason: refused.count(reason) for reason in REASONS if reason in refused})


def _difference(pair: Pairing[C]) -> float:
    return pair.score_diff


def _score(candidate: Scored) -> float:
    return candidate.score
