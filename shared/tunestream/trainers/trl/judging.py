"""How well parent and trained policy rank good over bad on the held-out rows of earlier batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch

from tunestream.events.dataset import DatasetRow, EpisodeRow, PreferenceRow
from tunestream.events.ids import stable_id
from tunestream.events.models import JudgedRow
from tunestream.trainers.trl.episodes import demonstrate
from tunestream.trainers.trl.examples import Marked
from tunestream.trainers.trl.method import Encoder
from tunestream.trainers.trl.rows import tokenise_preferences
from tunestream.trainers.trl.scoring import Scores, score
from tunestream.trainers.trl.selection import contrasts

__all__ = ["Judging"]


class _Contest(NamedTuple):
    """A good sequence and a bad one that answer the same prompt."""

    prompt: str
    good: Marked
    bad: Marked


class Judging:
    """Held-out rows by which a version is compared with the one that it was trained from.

    Of each group of episodes the best is compared with the worst, by the mean log-probability of what
    the assistant wrote in them: they may be of different lengths. Rows of prompt and response cannot be
    compared.

    Args:
        rows: None stands for a line that could not be read.
        encoder: the run's.
        most: contests; the first count.
    """

    def __init__(self, rows: Sequence[DatasetRow | None], encoder: Encoder, most: int) -> None:
        self._pairs = list(_of_preferences(rows, encoder))[:most]
        self._episodes = list(_of_episodes(rows, encoder))[: most - len(self._pairs)]

    def margins(self, trainer: Any) -> list[float]:
        """Return by how much the trainer's model finds the good likelier than the bad, in nats."""
        pairs = _margins(self._pairs, trainer, lambda scores: scores.log_probs)
        episodes = _margins(self._episodes, trainer, lambda scores: scores.log_probs / scores.tokens)
        return pairs + episodes

    def judged(self, before: list[float], after: list[float]) -> list[JudgedRow]:
        """Return the rows with the margins of the parent and of the trained policy."""
        prompts = [contest.prompt for contest in self._pairs + self._episodes]
        return [
            JudgedRow(prompt=prompt, before=first, after=last)
            for prompt, first, last in zip(prompts, before, after, strict=True)
        ]


def _of_preferences(rows: Sequence[DatasetRow | None], encoder: Encoder) -> Iterable[_Contest]:
    preferences = [row for row in rows if isinstance(row, PreferenceRow)]
    for pair in tokenise_preferences(preferences, encoder.tokenizer, encoder.limit).usable:
        chosen = Marked.of(pair.prompt_ids, pair.chosen_ids, encoder.limit)
        rejected = Marked.of(pair.prompt_ids, pair.rejected_ids, encoder.limit)
        yield _Contest(_name(pair.prompt_ids), chosen, rejected)


def _of_episodes(rows: Sequence[DatasetRow | None], encoder: Encoder) -> Iterable[_Contest]:
    for best, worst in contrasts(row for row in rows if isinstance(row, EpisodeRow)):
        good, bad = (demonstrate(row, encoder.tokenizer, encoder.limit) for row in (best, worst))
        if isinstance(good, Marked) and isinstance(bad, Marked):
            yield _Contest(_name(good.input_ids[: good.mask.index(1)]), good, bad)


def _name(prompt: list[int]) -> str:
    return stable_id("prompt", *map(str, prompt))


def _margins(contests: list[_Contest], trainer: Any, measure: Any) -> list[float]:
    if not contests:
        return []
    good: Scores = score(trainer, [contest.good for contest in contests])
    bad: Scores = score(trainer, [contest.bad for contest in contests])
    margins: torch.Tensor = measure(good) - measure(bad)
    return margins.tolist()
