"""Preference pairs of one turn, best first, without building what a cap throws away."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from operator import itemgetter
from typing import Final

from tunestream.domain.turns.lazy_pairs import pairs_of_many
from tunestream.domain.turns.pairing import REASONS, PairedPositions, PairRules, pairs_of

__all__ = ["pair_up"]

# Up to so many candidates it costs less to look at every pair than to count those of each reason.
_FEW: Final = 16


def pair_up(
    scores: Sequence[float], responses: Sequence[Hashable], contexts: Sequence[Hashable], rules: PairRules
) -> PairedPositions:
    """Pair the candidates of one turn, given in order of arrival.

    Exhaustive pairs come by difference, largest first; equal differences by the ranks of chosen and
    rejected, where equal scores rank by arrival. Costs O(n log n + pairs kept), apart from pairs with
    exactly the difference at which a cap cuts.

    Args:
        scores: finite; higher is better.
        responses: equal exactly for equal responses.
        contexts: equal exactly for equal prompts.
        rules: how they are paired.
    """
    if len(scores) < 2:
        return PairedPositions([], {"single_candidate": 1} if rules.require_multiple else {})
    ranked = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
    if not math.isfinite(scores[ranked[0]] - scores[ranked[-1]]):
        return PairedPositions([], {"score_overflow": pairs_of(len(ranked)) if rules.exhaustive else 1})
    if not rules.exhaustive:
        ranked = [ranked[0], ranked[-1]]
    if len(ranked) <= _FEW:
        return _pairs_of_few(ranked, scores, responses, contexts, rules)
    return pairs_of_many(ranked, scores, responses, contexts, rules)


def _pairs_of_few(
    ranked: list[int],
    scores: Sequence[float],
    responses: Sequence[Hashable],
    contexts: Sequence[Hashable],
    rules: PairRules,
) -> PairedPositions:
    """Look at every pair: what :func:`pairs_of_many` finds, sooner when the candidates are few."""
    kept: list[tuple[int, int, float]] = []
    refused: list[str] = []
    filtered, least = rules.filtered, rules.min_score_diff
    for rank, chosen in enumerate(ranked, start=1):
        score, response, context = scores[chosen], responses[chosen], contexts[chosen]
        for rejected in ranked[rank:]:
            diff = score - scores[rejected]
            if filtered and contexts[rejected] != context:
                refused.append("different_prompt")
            elif filtered and responses[rejected] == response:
                refused.append("identical_response")
            elif filtered and diff == 0:
                refused.append("tie")
            elif diff < least:
                refused.append("score_diff")
            else:
                kept.append((chosen, rejected, diff))
    if len(kept) > 1:
        kept.sort(key=itemgetter(2), reverse=True)
    if rules.exhaustive and rules.max_pairs is not None and len(kept) > rules.max_pairs:
        refused += ["max_pairs"] * (len(kept) - rules.max_pairs)
        del kept[rules.max_pairs :]
    if not refused:
        return PairedPositions(kept, {})
    return PairedPositions(kept, {reason: refused.count(reason) for reason in REASONS if reason in refused})
