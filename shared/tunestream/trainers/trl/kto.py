"""Learning from desirable and undesirable responses: TRL's KTO trainer for tokenised rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from datasets import Dataset
from transformers import Trainer
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer

from tunestream.events.dataset import DatasetRow
from tunestream.trainers.trl.examples import Examples, Marked, Preference
from tunestream.trainers.trl.held_out import HeldOut, HeldOutPreferences
from tunestream.trainers.trl.method import Encoder, dataset
from tunestream.trainers.trl.rows import tokenise_preferences
from tunestream.trainers.trl.scoring import score
from tunestream.trainers.trl.selection import unpaired
from tunestream.trainers.trl.watch import Guarded

__all__ = ["KTO", "ResponseTrainer"]


class KTO:
    """Learns that chosen responses are desirable and rejected ones are not."""

    def prepare(self, rows: Iterable[DatasetRow | None], encoder: Encoder) -> Examples[Preference]:
        """Tokenise preference rows; the trainer takes them apart."""
        return tokenise_preferences(rows, encoder.tokenizer, encoder.limit)

    def held_out(self, rows: Sequence[DatasetRow | None], encoder: Encoder) -> list[HeldOut]:
        """Compare chosen and rejected responses."""
        pairs = self.prepare(rows, encoder).usable
        beta = encoder.training.kto_args.beta
        return [HeldOutPreferences(pairs, encoder.limit, beta)] if pairs else []

    def trainer(self, examples: Sequence[Preference], **options: Any) -> Trainer:
        """Make the trainer."""
        responses = unpaired(examples, options["args"].seed)
        return ResponseTrainer(train_dataset=dataset(responses), **options)


class ResponseTrainer(Guarded, KTOTrainer):
    """KTO against the policy as it is when the trainer is made.

    The dataset has the columns ``prompt_ids``, ``completion_ids`` and ``label``, and is trained in its
    order: the KL term compares each batch's prompts with their neighbours' responses.
    """

    args: KTOConfig

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._forget_reference()

    def _prepare_dataset(self, dataset: Dataset, _tokenizer: Any, args: Any, *_names: Any) -> Dataset:
        if not self.calculate_KL:
            return dataset
        size = args.per_device_train_batch_size
        ids = list(dataset["completion_ids"])
        batches = [ids[start : start + size] for start in range(0, len(ids), size)]
        others = [one for batch in batches for one in (batch[-1], *batch[:-1])]
        return dataset.add_column("KL_completion_ids", others)

    def _precompute_ref_logps(self, dataset: Dataset, *_args: Any) -> Dataset:
        columns = {"ref_logps": "completion_ids", "ref_KL_logps": "KL_completion_ids"}
        for name, source in columns.items():
            if source in dataset.column_names:
                pairs = zip(dataset["prompt_ids"], dataset[source], strict=True)
                marked = [Marked.of(prompt, ids, self.args.max_length) for prompt, ids in pairs]
                dataset = dataset.add_column(name, score(self, marked).log_probs.tolist())
        return dataset
