"""All pairs of a large turn by difference: what a cap throws away is counted, and never built."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import Final

from tunestream.domain.turns.pairing import REASONS, PairedPositions, PairRules, pairs_of

__all__ = ["pairs_of_many"]

# A pair that is merged lazily costs about as much as so many that are looked at in a row.
_LAZY_COST: Final = 8

_Pairs = list[tuple[int, int, float]]


def pairs_of_many(
    ranked: Sequence[int],
    scores: Sequence[float],
    responses: Sequence[Hashable],
    contexts: Sequence[Hashable],
    rules: PairRules,
) -> PairedPositions:
    """Pair candidates, whose positions come best first, and count those pairs that are not kept by reason."""
    classes = [
        _Peers(ranks, [ranked[rank] for rank in ranks], scores, responses, rules)
        for ranks in _same_context(ranked, contexts, rules)
    ]
    skipped = _count(len(ranked), classes, rules)
    makeable = pairs_of(len(ranked)) - skipped.total()
    kept = makeable if rules.max_pairs is None else min(makeable, rules.max_pairs)
    skipped["max_pairs"] = makeable - kept
    if makeable + skipped["identical_response"] <= _LAZY_COST * kept:
        pairs = _every_pair(classes, len(ranked))[:kept]
    else:
        pairs = list(islice(_merged(classes), kept))
    return PairedPositions(pairs, {reason: skipped[reason] for reason in REASONS if skipped[reason]})


def _same_context(
    ranked: Sequence[int], contexts: Sequence[Hashable], rules: PairRules
) -> Iterable[Sequence[int]]:
    """Group the ranks of those that may be paired with one another."""
    if not rules.filtered:
        return [range(len(ranked))]
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for rank, position in enumerate(ranked):
        groups[contexts[position]].append(rank)
    return groups.values()


class _Peers:
    """The candidates that may be paired with one another, best first."""

    __slots__ = ("_least", "_other", "_strict", "positions", "ranks", "responses", "scores")

    def __init__(
        self,
        ranks: Sequence[int],
        positions: list[int],
        scores: Sequence[float],
        responses: Sequence[Hashable],
        rules: PairRules,
    ) -> None:
        self.ranks = ranks
        self.positions = positions
        self.scores = [scores[position] for position in positions]
        self.responses = _numbered([responses[position] for position in positions]) if rules.filtered else []
        self._least = rules.min_score_diff
        self._strict = rules.filtered
        self._other = self._nearest_other()

    def _nearest_other(self) -> list[int]:
        """For each place, the nearest one before it with a different response, or -1."""
        other: list[int] = []
        for at, response in enumerate(self.responses):
            same = at > 0 and self.responses[at - 1] == response
            other.append(other[at - 1] if same else at - 1)
        return other

    def partner(self, chosen: int, before: int) -> int:
        """Return the last place below ``before`` that ``chosen`` may be paired with, or -1."""
        at = before - 1
        if self.responses and at > chosen and self.responses[at] == self.responses[chosen]:
            at = self._other[at]
        return at if at > chosen and self._admits(self.scores[chosen] - self.scores[at]) else -1

    def pairs_by_chosen(self) -> Iterator[tuple[int, _Pairs]]:
        """Return all pairs of each chosen one, with its rank."""
        positions, scores, responses, first = self.positions, self.scores, self.responses, 0
        for at, (chosen, score) in enumerate(zip(positions, scores, strict=True)):
            first = max(first, at + 1)
            while first < len(scores) and not self._admits(score - scores[first]):
                first += 1
            worse = zip(positions[first:], scores[first:], strict=True)
            if responses:
                same = responses[at]
                pairs = [
                    (chosen, rejected, score - least)
                    for (rejected, least), response in zip(worse, responses[first:], strict=True)
                    if response != same
                ]
            else:
                pairs = [(chosen, rejected, score - least) for rejected, least in worse]
            yield self.ranks[at], pairs

    def _admits(self, diff: float) -> bool:
        return diff >= self._least and not (self._strict and diff == 0)


def _numbered(responses: Iterable[Hashable]) -> list[int]:
    """Return a number for each response, equal for equal ones; none when all differ."""
    numbers: dict[Hashable, int] = {}
    found = [numbers.setdefault(response, len(numbers)) for response in responses]
    return found if len(numbers) < len(found) else []


def _every_pair(classes: Iterable[_Peers], count: int) -> _Pairs:
    """Return all pairs, largest difference first."""
    by_rank: list[_Pairs] = [[]] * count
    for peers in classes:
        for rank, pairs in peers.pairs_by_chosen():
            by_rank[rank] = pairs
    return sorted(chain.from_iterable(by_rank), key=itemgetter(2), reverse=True)


def _merged(classes: Iterable[_Peers]) -> Iterator[tuple[int, int, float]]:
    """Yield all pairs, largest difference first.

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
        scores, positions, equal = peers.scores, peers.positions, []
        diff = scores[chosen] - scores[at]
        while at >= 0 and scores[chosen] - scores[at] == diff:
            equal.append(at)
            at = peers.partner(chosen, at)
        yield from ((positions[chosen], positions[rejected], diff) for rejected in reversed(equal))
        if at >= 0:
            heapq.heappush(heap, (scores[at] - scores[chosen], rank, chosen, at, peers))


def _entry(peers: _Peers, chosen: int, before: int) -> tuple[float, int, int, int, _Peers] | None:
    at = peers.partner(chosen, before)
    if at < 0:
        return None
    return (peers.scores[at] - peers.scores[chosen], peers.ranks[chosen], chosen, at, peers)


def _count(size: int, classes: Sequence[_Peers], rules: PairRules) -> Counter[str]:
    """Count the pairs that cannot be made; each under the first reason that holds for it."""
    skipped: Counter[str] = Counter()
    skipped["different_prompt"] = pairs_of(size) - sum(pairs_of(len(peers.ranks)) for peers in classes)
    for peers in classes:
        ties, close = _equal_pairs(peers.scores), _close_pairs(peers.scores, rules.min_score_diff)
        for same in _same_response(peers):
            skipped["identical_response"] += pairs_of(len(same))
            ties -= _equal_pairs(same)
            close -= _close_pairs(same, rules.min_score_diff)
        if rules.filtered:
            skipped["tie"] += ties
            close -= ties if rules.min_score_diff > 0 else 0
        skipped["score_diff"] += close
    return skipped


def _same_response(peers: _Peers) -> list[list[float]]:
    """Group the scores of those who gave the same response; most gave one of their own."""
    groups: dict[int, list[float]] = defaultdict(list)
    for response, score in zip(peers.responses, peers.scores, strict=False):  # none when all differ
        groups[response].append(score)
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
