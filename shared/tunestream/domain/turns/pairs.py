"""Preference pairs of one turn, best first, without building what a cap throws away."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from tunestream.events.trajectories import Prompt

__all__ = ["C", "PairRules", "Pairing", "Pairings", "Scored", "make_pairs", "prompt_key"]


class Scored(Protocol):
    """What pairing reads of a candidate."""

    @property
    def prompt(self) -> Prompt:
        """What was answered."""

    @property
    def response(self) -> str:
        """The answer."""

    @property
    def score(self) -> float:
        """Finite; higher is better."""

    @property
    def candidate_index(self) -> int | None:
        """The agent's number for it, None when unknown."""

    @property
    def raw_metadata(self) -> dict[str, Any]:
        """Whatever else the agent said."""


C = TypeVar("C", bound=Scored)

# Up to so many candidates it costs less to look at every pair than to merge lazily.
_FEW: Final = 12
# Why a pair is not made, in the order in which it is asked.
_REASONS: Final = ("different_prompt", "identical_response", "tie", "score_diff", "max_pairs")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRules:
    """How a turn's candidates are paired.

    Attributes:
        exhaustive: every better candidate with every worse one; otherwise only best with worst.
        min_score_diff: a pair needs at least this difference of raw scores.
        max_pairs: keep so many pairs of an exhaustive turn, largest differences first.
        require_multiple: whether a lone candidate is counted as skipped.
        filtered: never pair equal scores, identical responses or different prompts.
    """

    exhaustive: bool = True
    min_score_diff: float = 0.0
    max_pairs: int | None = None
    require_multiple: bool = True
    filtered: bool = True


class Pairing(NamedTuple, Generic[C]):
    """``chosen`` is preferred to ``rejected``; ``score_diff`` is the raw difference of their scores."""

    chosen: C
    rejected: C
    score_diff: float


@dataclass(frozen=True, slots=True)
class Pairings(Generic[C]):
    """The pairs kept, in order, and how many were not made, by reason."""

    kept: list[Pairing[C]]
    skipped: dict[str, int] = field(default_factory=dict)


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
        return Pairings([], {"score_overflow": _pairs_of(len(ranked)) if rules.exhaustive else 1})
    if not rules.exhaustive:
        return _best_vs_worst(ranked, rules)
    return _every_pair(ranked, rules) if len(ranked) <= _FEW else _exhaustive(ranked, rules)


def prompt_key(prompt: Prompt) -> str | tuple[tuple[str, str], ...]:
    """Return a hashable form of a prompt; equal exactly for equal prompts."""
    if isinstance(prompt, str):
        return prompt
    return tuple((message.role, message.content) for message in prompt)


def _differ(one: Prompt, other: Prompt) -> bool:
    """Compare prompts as their keys would, without making keys of what is text or the same object."""
    if one is other:
        return False
    if isinstance(one, str) or isinstance(other, str):
        return one != other
    return prompt_key(one) != prompt_key(other)


def _difference(pair: Pairing[C]) -> float:
    return pair.score_diff


def _score(candidate: Scored) -> float:
    return candidate.score


def _pairs_of(n: int) -> int:
    return n * (n - 1) // 2


def _best_vs_worst(ranked: list[C], rules: PairRules) -> Pairings[C]:
    best, worst = ranked[0], ranked[-1]
    diff = best.score - worst.score
    reason = _why_not(best, worst, diff, rules)
    return Pairings([], {reason: 1}) if reason else Pairings([Pairing(best, worst, diff)])


def _why_not(chosen: Scored, rejected: Scored, diff: float, rules: PairRules) -> str | None:
    if rules.filtered:
        if _differ(chosen.prompt, rejected.prompt):
            return "different_prompt"
        if chosen.response == rejected.response:
            return "identical_response"
        if diff == 0:
            return "tie"
    return "score_diff" if diff < rules.min_score_diff else None


def _every_pair(ranked: list[C], rules: PairRules) -> Pairings[C]:
    """Look at every pair: what :func:`_exhaustive` finds, sooner when the candidates are few."""
    found: list[Pairing[C]] = []
    refused: list[str] = []
    for rank, chosen in enumerate(ranked, start=1):
        for rejected in ranked[rank:]:
            diff = chosen.score - rejected.score
            reason = _why_not(chosen, rejected, diff, rules)
            if reason is None:
                found.append(Pairing(chosen, rejected, diff))
            else:
                refused.append(reason)
    found.sort(key=_difference, reverse=True)
    kept = found[: rules.max_pairs]
    refused += ["max_pairs"] * (len(found) - len(kept))
    return Pairings(kept, {reason: refused.count(reason) for reason in _REASONS if reason in refused})


def _exhaustive(ranked: list[C], rules: PairRules) -> Pairings[C]:
    classes = _same_prompt(ranked) if rules.filtered else [list(range(len(ranked)))]
    pairs = _by_difference([_Peers(ranked, ranks, rules) for ranks in classes])
    kept = [Pairing(ranked[i], ranked[j], diff) for i, j, diff in islice(pairs, rules.max_pairs)]
    if len(kept) == _pairs_of(len(ranked)):
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
    comparable = sum(_pairs_of(len(ranks)) for ranks in classes)
    identical = ties = close = 0
    for ranks in classes:
        scores = [ranked[rank].score for rank in ranks]
        ties += _equal_pairs(scores)
        close += _close_pairs(scores, rules.min_score_diff)
        if rules.filtered:
            for same in _same_response(ranked, ranks):
                identical += _pairs_of(len(same))
                ties -= _equal_pairs(same)
                close -= _close_pairs(same, rules.min_score_diff)
    if not rules.filtered:
        ties = 0
    elif rules.min_score_diff > 0:
        close -= ties
    rest = comparable - identical - ties - close - kept
    counts = (_pairs_of(len(ranked)) - comparable, identical, ties, close, rest)
    return {reason: count for reason, count in zip(_REASONS, counts, strict=True) if count}


def _same_response(ranked: Sequence[Scored], ranks: Iterable[int]) -> list[list[float]]:
    """Group the scores of those who gave the same response; most gave one of their own."""
    groups: dict[str, list[float]] = defaultdict(list)
    for rank in ranks:
        groups[ranked[rank].response].append(ranked[rank].score)
    return [scores for scores in groups.values() if len(scores) > 1]


def _equal_pairs(scores: Iterable[float]) -> int:
    return sum(_pairs_of(len(list(group))) for _, group in groupby(scores))


def _close_pairs(scores: Sequence[float], least: float) -> int:
    """Count the pairs of a descending list whose difference is below ``least``."""
    count = end = 0
    for at, score in enumerate(scores):
        end = max(end, at + 1)
        while end < len(scores) and score - scores[end] < least:
            end += 1
        count += end - at - 1
    return count
