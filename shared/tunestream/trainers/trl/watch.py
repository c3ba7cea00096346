"""What all our trainers have in common: what is watched while they run."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tunestream.trainers.port import TrainingFailed
from tunestream.trainers.worker.channel import JobCanceled

__all__ = ["Guarded", "Watch", "curve", "last_logged"]

_MOST_POINTS: Final = 1000
_DRAWN: Final = ("step", "epoch", "learning_rate", "grad_norm")
_LOGGED: Final = {
    "loss": "loss",
    "rewards/accuracies": "reward_accuracy",
    "rewards/margins": "reward_margin",
    "mean_token_accuracy": "token_accuracy",
    "clip_fraction": "clip_fraction",
}


class Guarded(Trainer):
    """A trainer of rows that are tokenised already; it stops when its loss is not a number."""

    def training_step(self, *args: Any, **options: Any) -> torch.Tensor:
        """Take one step.

        Raises:
            TrainingFailed: when the loss is not a number.
        """
        loss: torch.Tensor = super().training_step(*args, **options)
        if not math.isfinite(loss.item()):
            raise TrainingFailed(
                "nan_loss",
                f"the loss became {loss.item()} after step {self.state.global_step}: lower "
                "training.training_args.learning_rate, or raise the objective's beta",
            )
        return loss

    def create_model_card(self, *_args: Any, **_options: Any) -> None:
        """Write none: checkpoints and versions hold weights only."""

    def _prepare_dataset(self, dataset: Any, *_args: Any, **_options: Any) -> Any:
        return dataset

    def _forget_reference(self) -> None:
        """Remove TRL's copy of the parent adapter, once its log-probabilities are known."""
        model: Any = self.model
        if "ref" in getattr(model, "peft_config", {}):
            model.delete_adapter("ref")


class Watch(TrainerCallback):
    """Reports the progress of training and hands over its checkpoints.

    A job that is canceled while it trains finishes its step and its checkpoint.

    Args:
        update: takes changes of the job's progress; what it raises ends the training.
        publish: stores the checkpoint in a local folder, made at a step, and removes the folder.
    """

    def __init__(self, update: Callable[..., None], publish: Callable[[Path, int], None]) -> None:
        self._update = update
        self._publish = publish

    def on_train_begin(self, args: Any, state: TrainerState, *_: Any, **__: Any) -> None:  # noqa: ARG002
        """Report the number of steps."""
        self._update(phase="training", step=state.global_step, total=state.max_steps)

    def on_step_end(
        self,
        args: Any,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Report that a step is done."""
        self._report(control, step=state.global_step)

    def on_log(
        self,
        args: Any,  # noqa: ARG002
        state: Any,  # noqa: ARG002
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Report the latest loss, rewards and other metrics."""
        self._report(control, **_ours(logs or {}))

    def _report(self, control: TrainerControl, **changes: Any) -> None:
        try:
            self._update(**changes)
        except JobCanceled:
            control.should_save = True  # on_save reports again, and so ends the training

    def on_save(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Hand over the latest checkpoint."""
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        self._publish(folder, state.global_step)
        self._update(checkpoint=state.global_step)


def last_logged(history: list[dict[str, float]]) -> dict[str, float]:
    """Return the last logged value of each of our metrics but the loss."""
    values: dict[str, float] = {}
    for entry in history:
        values |= _ours(entry)
    values.pop("loss", None)
    return values


def curve(history: list[dict[str, float]]) -> list[dict[str, float]]:
    """Return what was logged while training, evenly thinned where it is long."""
    points = []
    for entry in history:
        if "loss" in entry:
            drawn = {name: float(entry[name]) for name in _DRAWN if name in entry}
            points.append(
                {name: value for name, value in drawn.items() if math.isfinite(value)} | _ours(entry)
            )
    every = -(-len(points) // _MOST_POINTS) or 1
    return points[::every]


def _ours(logs: dict[str, float]) -> dict[str, float]:
    values = {ours: float(logs[theirs]) for theirs, ours in _LOGGED.items() if theirs in logs}
    return {name: value for name, value in values.items() if math.isfinite(value)}
