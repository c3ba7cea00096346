"""Supervised fine-tuning on the best responses: TRL's trainer for tokenised rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from datasets import Dataset
from transformers import Trainer
from trl.trainer.sft_trainer import SFTTrainer

from tunestream.events.dataset import DatasetRow, EpisodeRow, PreferenceRow
from tunestream.trainers.trl.episodes import demonstrate
from tunestream.trainers.trl.examples import Examples, Marked
from tunestream.trainers.trl.held_out import HeldOut, HeldOutPreferences, HeldOutResponses
from tunestream.trainers.trl.method import Encoder
from tunestream.trainers.trl.rows import tokenise_preferences, tokenise_responses
from tunestream.trainers.trl.selection import best_of
from tunestream.trainers.trl.watch import Guarded

__all__ = ["SFT", "DemonstrationTrainer"]


class SFT:
    """Learns to generate the best responses, or the replies of the best episodes."""

    def prepare(self, rows: Iterable[DatasetRow | None], encoder: Encoder) -> Examples[Marked]:
        """Tokenise the best rows; prompts are read, not learnt."""
        given = list(rows)
        best = best_of(given)
        spoken = [row for row in best if not isinstance(row, EpisodeRow)]
        examples = tokenise_responses(spoken, encoder.tokenizer, encoder.limit)
        for row in best:
            if isinstance(row, EpisodeRow):
                _add(examples, demonstrate(row, encoder.tokenizer, encoder.limit))
        examples.skipped += Counter(not_the_best=len(given) - len(best))
        return examples

    def held_out(self, rows: Sequence[DatasetRow | None], encoder: Encoder) -> list[HeldOut]:
        """Score the best responses, and where rows have two compare these."""
        best = self.prepare(rows, encoder).usable
        preferences = [row for row in rows if isinstance(row, PreferenceRow)]
        pairs = tokenise_preferences(preferences, encoder.tokenizer, encoder.limit).usable
        measures: list[HeldOut] = [HeldOutResponses(best)] if best else []
        return [*measures, HeldOutPreferences(pairs, encoder.limit, beta=None)] if pairs else measures

    def trainer(self, examples: Sequence[Marked], **options: Any) -> Trainer:
        """Make the trainer."""
        rows = [{"input_ids": example.input_ids, "labels": example.labels} for example in examples]
        return DemonstrationTrainer(train_dataset=Dataset.from_list(rows), **options)


class DemonstrationTrainer(Guarded, SFTTrainer):
    """SFT on the columns ``input_ids`` and ``labels``."""


def _add(examples: Examples[Marked], made: Marked | str) -> None:
    if isinstance(made, str):
        examples.skipped[made] += 1
    else:
        examples.usable.append(made)
