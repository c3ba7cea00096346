"""Learning from desirable and undesirable responses: TRL's KTO trainer for tokenised rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from datasets import Dataset
from transformers import Trainer
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer

from tunestream.events.dataset import DatasetRow, ResponseRow
from tunestream.trainers.trl.examples import Examples, Marked, Preference, Response
from tunestream.trainers.trl.held_out import HeldOut, HeldOutPreferences
from tunestream.trainers.trl.method import Encoder, dataset
from tunestream.trainers.trl.rows import tokenise_labelled, tokenise_preferences
from tunestream.trainers.trl.scoring import score
from tunestream.trainers.trl.selection import unpaired
from tunestream.trainers.trl.watch import Guarded

__all__ = ["KTO", "ResponseTrainer"]


class KTO:
    """Learns that chosen responses are desirable and rejected ones are not, and so are labelled ones."""

    def prepare(self, rows: Iterable[DatasetRow | None], encoder: Encoder) -> Examples[Preference | Response]:
        """Tokenise preference rows, which the trainer takes apart, and responses with a label."""
        given = list(rows)
        labelled = [row for row in given if isinstance(row, ResponseRow)]
        others = [row for row in given if not isinstance(row, ResponseRow)]
        pairs = tokenise_preferences(others, encoder.tokenizer, encoder.limit)
        responses = tokenise_labelled(labelled, encoder.tokenizer, encoder.limit)
        return Examples([*pairs.usable, *responses.usable], pairs.skipped + responses.skipped)

    def held_out(self, rows: Sequence[DatasetRow | None], encoder: Encoder) -> list[HeldOut]:
        """Compare chosen and rejected responses."""
        pairs = tokenise_preferences(rows, encoder.tokenizer, encoder.limit).usable
        beta = encoder.training.kto_args.beta
        return [HeldOutPreferences(pairs, encoder.limit, beta)] if pairs else []

    def trainer(self, examples: Sequence[Preference | Response], **options: Any) -> Trainer:
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
