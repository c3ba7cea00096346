"""Direct preference optimisation: TRL's trainer for rows that are tokenised already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from datasets import Dataset
from transformers import Trainer
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from tunestream.events.dataset import DatasetRow
from tunestream.trainers.trl.examples import Examples, Marked, Preference
from tunestream.trainers.trl.held_out import HeldOut, HeldOutPreferences
from tunestream.trainers.trl.method import Encoder, dataset
from tunestream.trainers.trl.rows import tokenise_preferences
from tunestream.trainers.trl.scoring import score
from tunestream.trainers.trl.watch import Guarded

__all__ = ["DPO", "PreferenceTrainer"]


class DPO:
    """Learns that the chosen responses are better than the rejected ones."""

    def prepare(self, rows: Iterable[DatasetRow | None], encoder: Encoder) -> Examples[Preference]:
        """Tokenise preference rows."""
        return tokenise_preferences(rows, encoder.tokenizer, encoder.limit)

    def held_out(self, rows: Sequence[DatasetRow | None], encoder: Encoder) -> list[HeldOut]:
        """Compare chosen and rejected responses."""
        pairs = self.prepare(rows, encoder).usable
        beta = encoder.training.dpo_args.beta
        return [HeldOutPreferences(pairs, encoder.limit, beta)] if pairs else []

    def trainer(self, examples: Sequence[Preference], **options: Any) -> Trainer:
        """Make the trainer."""
        return PreferenceTrainer(train_dataset=dataset(examples), **options)


class PreferenceTrainer(Guarded, DPOTrainer):
    """DPO against the policy as it is when the trainer is made.

    The dataset has the columns ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``; the reference's
    log-probabilities are added to it here.
    """

    args: DPOConfig

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._forget_reference()

    def _precompute_ref_logps(self, dataset: Dataset, *_args: Any) -> Dataset:
        for name in ("chosen", "rejected"):
            columns = zip(dataset["prompt_ids"], dataset[f"{name}_ids"], strict=True)
            marked = [Marked.of(prompt, ids, self.args.max_length) for prompt, ids in columns]
            dataset = dataset.add_column(f"ref_{name}_logps", score(self, marked).log_probs.tolist())
        return dataset
