"""Which rows an objective learns from, and with what weight; pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from random import Random
from statistics import fmean, pstdev
from typing import Literal

from tunestream.events.dataset import DatasetRow, EpisodeRow, PreferenceRow, ResponseRow
from tunestream.trainers.trl.examples import Preference, Response

__all__ = ["advantages", "best_of", "contrasts", "unpaired"]


def best_of(rows: Iterable[DatasetRow | None]) -> list[DatasetRow | None]:
    """Keep of each prompt's chosen responses the one of the highest score, of each group's episodes too.

    The first wins among equals, and stands where the first of its prompt stood. Rows of prompt and
    response are all kept, and so is None.
    """
    best: dict[Hashable, DatasetRow | None] = {}
    for number, row in enumerate(rows):
        contest = _contest(row, number)
        if contest not in best or _score(row) > _score(best[contest]):
            best[contest] = row
    return [_as_response(row) for row in best.values()]


def unpaired(examples: Iterable[Preference | Response], seed: int) -> list[Response]:
    """Return each response once, shuffled: the chosen ones as desirable, and the rejected ones as not."""
    found: dict[Hashable, Response] = {}
    for example in examples:
        for one in (example,) if isinstance(example, Response) else _both(example):
            found.setdefault((tuple(one.prompt_ids), tuple(one.completion_ids), one.label), one)
    responses = list(found.values())
    Random(seed).shuffle(responses)  # noqa: S311 - an order, not a secret
    return responses


def _both(pair: Preference) -> tuple[Response, Response]:
    return Response(pair.prompt_ids, pair.chosen_ids, True), Response(
        pair.prompt_ids, pair.rejected_ids, False
    )


def advantages(
    rows: Sequence[EpisodeRow], scale: Literal["group", "none"]
) -> Mapping[str, Mapping[float, float]]:
    """Return by group and reward how much better than its group's mean an episode is.

    Groups of equal rewards, and so those of one episode, are left out: they teach nothing.
    """
    rewards: defaultdict[str, list[float]] = defaultdict(list)
    for row in rows:
        rewards[row.group_id].append(row.reward)
    return {group: _centred(values, scale) for group, values in rewards.items() if min(values) < max(values)}


def contrasts(rows: Iterable[EpisodeRow]) -> list[tuple[EpisodeRow, EpisodeRow]]:
    """Return the best and the worst episode of each group with unequal rewards, the first among equals."""
    groups: defaultdict[str, list[EpisodeRow]] = defaultdict(list)
    for row in rows:
        groups[row.group_id].append(row)
    ends = [(max(group, key=_score), min(group, key=_score)) for group in groups.values()]
    return [(best, worst) for best, worst in ends if best.reward > worst.reward]


def _centred(rewards: list[float], scale: Literal["group", "none"]) -> dict[float, float]:
    mean = fmean(rewards)
    unit = pstdev(rewards) if scale == "group" else 1.0
    return {reward: (reward - mean) / unit for reward in rewards}


def _contest(row: DatasetRow | None, number: int) -> Hashable:
    if isinstance(row, PreferenceRow):
        messages = row.prompt if isinstance(row.prompt, str) else tuple(m.to_json() for m in row.prompt)
        return "prompt", messages
    if isinstance(row, EpisodeRow):
        return "group", row.group_id
    return "row", number


def _score(row: DatasetRow | None) -> float:
    if isinstance(row, PreferenceRow):
        return row.chosen_score
    return row.reward if isinstance(row, EpisodeRow) else 0.0


def _as_response(row: DatasetRow | None) -> DatasetRow | None:
    if isinstance(row, PreferenceRow):
        return ResponseRow(prompt=row.prompt, response=row.chosen)
    return row
