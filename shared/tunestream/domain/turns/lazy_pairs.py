"""All pairs of a large turn by difference, merged lazily: what a cap throws away is never built."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice

from tunestream.domain.turns.pairing import (
    REASONS,
    C,
    Pairing,
    Pairings,
    PairRules,
    Scored,
    pairs_of,
    prompt_key,
)

__all__ = ["every_pair_lazily"]


def every_pair_lazily(ranked: list[C], rules: PairRules) -> Pairings[C]:
    """Pair candidates, given best first, and count those pairs that are not kept by reason."""
    classes = _same_prompt(ranked) if rules.filtered else [list(range(len(ranked)))]
    pairs = _by_difference([_Peers(ranked, ranks, rules) for ranks in classes])
    kept = [Pairing(ranked[i], ranked[j], diff) for i, j, diff in islice(pairs, rules.max_pairs)]
    if len(kept) == pairs_of(len(ranked)):
        return Pairings(kept)
    return Pairings(kept, _count_skipped(ranked, classes, rules, len(kept)))


def _same_prompt(ranked: Sequence[Scored]) -> list[list[int]]:
    """Group the ranks by prompt."""
    groups: dict[object, list[int]] = defaultdict(list)
    prompt, key = ranked[0].prompt, prompt_key(ranked[0].prompt)
    for rank, candidate in enumerate(ranked):
        if candidate.prompt is not prompt:  # candidates often share one
            prompt, key = candidate.prompt, prompt_key(candidate.prompt)
        groups[key].append(rank)
    return list(groups.values())


class _Peers:
    """The candidates that may be paired with one another, best first."""

    __slots__ = ("_least", "_other", "_responses", "_strict", "ranks", "scores")

    def __init__(self, ranked: Sequence[Scored], ranks: list[int], rules: PairRules) -> None:
        self.ranks = ranks
        self.scores = [ranked[rank].score for rank in ranks]
        self._least = rules.min_score_diff
        self._strict = rules.filtered
        self._responses = [ranked[rank].response for rank in ranks] if rules.filtered else None
        self._other = self._nearest_other()

    def _nearest_other(self) -> list[int]:
        """For each position, the nearest one before it with a different response, or -1."""
        if self._responses is None:
            return []
        other: list[int] = []
        for at, response in enumerate(self._responses):
            same = at > 0 and self._responses[at - 1] == response
            other.append(other[at - 1] if same else at - 1)
        return other

    def partner(self, chosen: int, before: int) -> int:
        """Return the last position below ``before`` that ``chosen`` may be paired with, or -1."""
        at = before - 1
        if self._responses is not None and at > chosen and self._responses[at] == self._responses[chosen]:
            at = self._other[at]
        return at if at > chosen and self._admits(self.scores[chosen] - self.scores[at]) else -1

    def _admits(self, diff: float) -> bool:
        return diff >= self._least and not (self._strict and diff == 0)


def _by_difference(classes: Iterable[_Peers]) -> Iterator[tuple[int, int, float]]:
    """Yield (rank of chosen, rank of rejected, difference), largest difference first.

    For one chosen candidate the difference grows with the rejected one's rank, so a heap with one entry
    per chosen candidate, at its best remaining partner, merges them lazily.
    """
    heap: list[tuple[float, int, int, int, _Peers]] = []
    for peers in classes:
        size = len(peers.ranks)
        heap += (entry for chosen in range(size - 1) if (entry := _entry(peers, chosen, size)))
    heapq.heapify(heap)
    while heap:
        _, rank, chosen, at, peers = heapq.heappop(heap)
        scores, equal = peers.scores, []
        diff = scores[chosen] - scores[at]
        while at >= 0 and scores[chosen] - scores[at] == diff:
            equal.append(at)
            at = peers.partner(chosen, at)
        yield from ((rank, peers.ranks[rejected], diff) for rejected in reversed(equal))
        if at >= 0:
            heapq.heappush(heap, (scores[at] - scores[chosen], rank, chosen, at, peers))


def _entry(peers: _Peers, chosen: int, before: int) -> tuple[float, int, int, int, _Peers] | None:
    at = peers.partner(chosen, before)
    if at < 0:
        return None
    return (peers.scores[at] - peers.scores[chosen], peers.ranks[chosen], chosen, at, peers)


def _count_skipped(
    ranked: Sequence[Scored], classes: list[list[int]], rules: PairRules, kept: int
) -> dict[str, int]:
    """Count the pairs that were not kept; each under the first reason that holds for it."""
    comparable = sum(pairs_of(len(ranks)) for ranks in classes)
    identical = ties = close = 0
    for ranks in classes:
        scores = [ranked[rank].score for rank in ranks]
        ties += _equal_pairs(scores)
        close += _close_pairs(scores, rules.min_score_diff)
        if rules.filtered:
            for same in _same_response(ranked, ranks):
                identical += pairs_of(len(same))
                ties -= _equal_pairs(same)
                close -= _close_pairs(same, rules.min_score_diff)
    if not rules.filtered:
        ties = 0
    elif rules.min_score_diff > 0:
        close -= ties
    rest = comparable - identical - ties - close - kept
    counts = (pairs_of(len(ranked)) - comparable, identical, ties, close, rest)
    return {reason: count for reason, count in zip(REASONS, counts, strict=True) if count}


def _same_response(ranked: Sequence[Scored], ranks: Iterable[int]) -> list[list[float]]:
    """Group the scores of those who gave the same response; most gave one of their own."""
    groups: dict[str, list[float]] = defaultdict(list)
    for rank in ranks:
        groups[ranked[rank].response].append(ranked[rank].score)
    return [scores for scores in groups.values() if len(scores) > 1]


def _equal_pairs(scores: Iterable[float]) -> int:
    return sum(pairs_of(len(list(group))) for _, group in groupby(scores))


def _close_pairs(scores: Sequence[float], least: float) -> int:
    """Count the pairs of a descending list whose difference is below ``least``."""
    count = end = 0
    for at, score in enumerate(scores):
        end = max(end, at + 1)
        while end < len(scores) and score - scores[end] < least:
            end += 1
        count += end - at - 1
    return count
