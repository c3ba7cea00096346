"""How likely a policy finds sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from tunestream.trainers.trl.examples import Marked

__all__ = ["Scores", "pad", "score"]


class Scores(NamedTuple):
    """Of each sequence's marked tokens, on the CPU and of shape (sequences,)."""

    log_probs: torch.Tensor  # summed, nats
    tokens: torch.Tensor
    correct: torch.Tensor  # tokens that were the likeliest


def score(trainer: Any, sequences: Sequence[Marked]) -> Scores:
    """Score sequences by the trainer's model as it is, in batches of its size."""
    size = trainer.args.per_device_train_batch_size
    was_training = trainer.model.training
    trainer.model.eval()
    batches = [_score(trainer, sequences[start : start + size]) for start in range(0, len(sequences), size)]
    trainer.model.train(was_training)
    return Scores(*(torch.cat(column) for column in zip(*batches, strict=True)))


def pad(rows: Sequence[Sequence[float]], value: float, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    """Return a tensor of shape (rows, longest)."""
    tensors = [torch.tensor(row, dtype=dtype) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=value)


@torch.no_grad()
def _score(trainer: Any, sequences: Sequence[Marked]) -> Scores:
    batch = {
        "input_ids": pad([one.input_ids for one in sequences], trainer.processing_class.pad_token_id or 0),
        "attention_mask": pad([[1] * one.tokens for one in sequences], 0),
        "labels": pad([one.labels for one in sequences], -100),
    }
    batch = {name: tensor.to(trainer.model.device) for name, tensor in batch.items()}
    with trainer.accelerator.autocast():
        output = trainer.model(**batch, use_cache=False, fused_lm_head=True)
    correct = torch.zeros_like(output.label_mask) if output.is_top1 is None else output.is_top1
    columns = (output.log_probs.float(), output.label_mask, correct & output.label_mask)
    return Scores(*(column.sum(dim=1).cpu() for column in columns))
