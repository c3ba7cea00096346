"""Group-relative policy optimisation on recorded episodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Trainer, TrainingArguments
from trl.trainer.utils import add_fused_lm_head

from tunestream.events.dataset import DatasetRow, EpisodeRow
from tunestream.trainers.trl.episodes import replay
from tunestream.trainers.trl.examples import Episode, Examples
from tunestream.trainers.trl.held_out import HeldOut, HeldOutEpisodes
from tunestream.trainers.trl.method import Encoder, dataset
from tunestream.trainers.trl.scoring import pad
from tunestream.trainers.trl.selection import advantages
from tunestream.trainers.trl.watch import Guarded

__all__ = ["GRPO", "EpisodeArguments", "EpisodeTrainer"]


class GRPO:
    """Learns to do more often what did better than the other episodes of its group."""

    def prepare(self, rows: Iterable[DatasetRow | None], encoder: Encoder) -> Examples[Episode]:
        """Tokenise episodes of groups with unequal rewards."""
        given = list(rows)
        examples: Examples[Episode] = Examples()
        scale = encoder.training.grpo_args.scale_rewards
        better = advantages([row for row in given if isinstance(row, EpisodeRow)], scale)
        for row in given:
            made = _example(row, better, encoder)
            if isinstance(made, str):
                examples.skipped[made] += 1
            else:
                examples.usable.append(made)
        return examples

    def held_out(self, rows: Sequence[DatasetRow | None], encoder: Encoder) -> list[HeldOut]:
        """Weigh what the policy said by how well it went."""
        episodes = self.prepare(rows, encoder).usable
        return [HeldOutEpisodes(episodes)] if episodes else []

    def trainer(self, examples: Sequence[Episode], **options: Any) -> Trainer:
        """Make the trainer."""
        return EpisodeTrainer(train_dataset=dataset(examples), **options)


@dataclass
class EpisodeArguments(TrainingArguments):
    """Arguments of :class:`EpisodeTrainer`."""

    epsilon: float = 0.2
    epsilon_high: float = 0.28
    scale_rewards: str = "group"
    max_length: int | None = None


class EpisodeTrainer(Guarded):
    """Policy gradient with clipped ratios (PPO) on episodes and their advantages.

    The dataset's columns are the fields of :class:`Episode`. The loss is a mean over the tokens that the
    policy said in all episodes of a step; nothing is generated.
    """

    args: EpisodeArguments
    model: Any

    def __init__(self, **options: Any) -> None:
        tokenizer = options["processing_class"]
        self._padding: int = tokenizer.pad_token_id or tokenizer.eos_token_id or 0
        super().__init__(data_collator=self._collate, **options)
        self.model_accepts_loss_kwargs = True  # the loss divides by the tokens of the whole step
        self._clipped: defaultdict[str, float] = defaultdict(float)
        adapted = hasattr(self.model, "peft_config")
        add_fused_lm_head(self.model.get_base_model() if adapted else self.model)
        if adapted and self.args.gradient_checkpointing:
            self.model.enable_input_require_grads()

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the loss of one batch."""
        read = {name: inputs[name] for name in ("input_ids", "attention_mask", "labels")}
        output = model(**read, use_cache=False, fused_lm_head=True)
        ratio = torch.exp(output.log_probs - inputs["old_logps"][:, 1:])
        bounded = ratio.clamp(1.0 - self.args.epsilon, 1.0 + self.args.epsilon_high)
        advantage = inputs["advantage"].unsqueeze(1)
        gain = torch.minimum(ratio * advantage, bounded * advantage) * output.label_mask
        said = output.label_mask.sum()
        self._clipped["tokens"] += said.item()
        self._clipped["clipped"] += (
            ((bounded * advantage < ratio * advantage) & output.label_mask).sum().item()
        )
        loss = -gain.sum() / (said if num_items_in_batch is None else num_items_in_batch)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes
        return (loss, output) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the share of tokens whose ratio was clipped, too."""
        if self._clipped["tokens"]:
            logs["clip_fraction"] = self._clipped["clipped"] / self._clipped["tokens"]
            self._clipped.clear()
        super().log(logs, start_time)

    def _collate(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        episodes = [Episode(**row) for row in rows]
        return {
            "input_ids": pad([one.input_ids for one in episodes], self._padding),
            "attention_mask": pad([[1] * one.tokens for one in episodes], 0),
            "labels": pad([one.labels for one in episodes], -100),
            "old_logps": pad([one.old_logps for one in episodes], 0.0, torch.float32),
            "advantage": torch.tensor([one.advantage for one in episodes]),
        }


def _example(row: DatasetRow | None, better: Any, encoder: Encoder) -> Episode | str:
    if row is None:
        return "unreadable"
    if not isinstance(row, EpisodeRow):
        return "wrong_kind"
    if row.group_id not in better:
        return "zero_variance"
    return replay(row, encoder.tokenizer, encoder.limit, better[row.group_id][row.reward])
