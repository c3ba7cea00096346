"""One job while it is trained: its configuration, its trace, its notes and its loss curve."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from typing import Final

import art

from tunestream.artifacts import ArtifactStore
from tunestream.events.ids import stable_id
from tunestream.trainers.art.config import ARTTrainerAdapterConfig
from tunestream.trainers.art.settings import ARTSettings
from tunestream.trainers.art.traces import Trace, Traces
from tunestream.trainers.port import JobSpec, TrainingFailed
from tunestream.trainers.worker.channel import Channel

__all__ = ["Job", "measured"]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_CURVE: Final = 1000  # gradient steps whose loss is kept
_METRICS: Final = {
    "loss/train": "train_loss",
    "loss/grad_norm": "grad_norm",
    "loss/entropy": "entropy",
    "loss/kl_div": "kl_div",
    "time/step_trainer_s": "train_seconds",
    "data/step_num_gradient_steps": "steps",
    "data/step_trainer_tokens": "tokens",
}
"""ART's names of what it measures → ours."""


class Job:
    """The state of one job.

    Args:
        spec: what to train.
        channel: takes its progress; it raises :class:`JobCanceled` when the job is not wanted any more.
        settings: deadlines.

    Attributes:
        notes: for the job's last status.
        curve: ``step`` and ``loss`` of the first 1,000 gradient steps.
        started: when, in seconds of the monotonic clock.
    """

    def __init__(self, spec: JobSpec, channel: Channel, settings: ARTSettings) -> None:
        if not isinstance(spec.config, ARTTrainerAdapterConfig):
            raise TrainingFailed("wrong_backend", f"trainer._type is {spec.config.type}; this is ART")
        self.spec = spec
        self.config = spec.config
        self.channel = channel
        self.settings = settings
        self.store = ArtifactStore(spec.artifacts)
        self.name = self.config.backend.name or _name_of(spec.run_id)
        self.traces = Traces(self.store, self.config.backend, self.name)
        self.notes: list[str] = []
        self.curve: list[dict[str, float]] = []
        self.started = time.monotonic()

    def model(self) -> art.TrainableModel:
        """Return the model as ART knows it."""
        backend = self.config.backend
        inner = {
            name: value
            for name in ("init_args", "peft_args", "trainer_args", "engine_args")
            if (value := getattr(backend, name)) is not None
        }
        return art.TrainableModel(
            name=self.name,
            project=backend.project,
            entity=backend.entity,
            base_model=backend.base_model,
            base_path=backend.path,
            _internal_config=inner or None,
        )

    def stepped(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Report a gradient step.

        Raises:
            JobCanceled: when the job should stop.
        """
        loss = measured(metrics).get("train_loss")
        if loss is not None and len(self.curve) < _CURVE:
            self.curve.append({"step": float(step), "loss": loss})
        self.channel.update(step=step, total=max(step, total), loss=loss)

    def note(self, text: str) -> None:
        """Have the job's last status show a note."""
        self.notes.append(text)

    def trace(self) -> Trace:
        """Return the job's trace, which it has once it began."""
        trace = self.traces.find(self.spec.job_id)
        if trace is None:
            raise RuntimeError("the job has not begun")
        return trace


def measured(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return ART's metrics under our names, without those that are no numbers."""
    found = {ours: float(metrics[theirs]) for theirs, ours in _METRICS.items() if theirs in metrics}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _name_of(run_id: str) -> str:
    return run_id if _NAME.fullmatch(run_id) else stable_id("run", run_id)
