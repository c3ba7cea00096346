"""The messages between a worker that trains and its owner."""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, TypeAdapter

from tunestream.events.base import Wire
from tunestream.trainers import port
from tunestream.trainers.port import JobSpec, Phase, TrainingFailed, TrainingResult

__all__ = [
    "COMMANDS",
    "REPORTS",
    "CancelJob",
    "Canceled",
    "Failed",
    "Finished",
    "Progress",
    "RunJob",
    "Terminal",
]


class RunJob(Wire):
    """Train this."""

    type: Literal["run"] = "run"
    spec: JobSpec


class CancelJob(Wire):
    """Stop training this after the current step."""

    type: Literal["cancel"] = "cancel"
    job_id: str


class Progress(port.Progress):
    """Where which job is, with what was measured last."""

    job_id: str
    phase: Phase = "loading"
    checkpoint: int = Field(default=0, description="step of the latest stored checkpoint")

    def after(self, **changes: Any) -> Self:
        """Return where the job is after changes.

        Args:
            **changes: ``phase``, ``step``, ``total``, ``checkpoint``; any other name is a metric, which
                keeps its value where the new one is None or not finite.
        """
        fields = {name: changes.pop(name) for name in _FIELDS & changes.keys()}
        measured = {name: value for name, value in changes.items() if value is not None}
        finite = {name: value for name, value in measured.items() if math.isfinite(value)}
        after = self.model_copy(update={**fields, "metrics": {**self.metrics, **finite}})
        percent = 100.0 * after.step / after.total if after.total else 0.0
        return after.model_copy(update={"percent": min(max(percent, self.percent), 100.0)})


class Finished(Wire):
    """The job is trained."""

    type: Literal["finished"] = "finished"
    job_id: str
    result: TrainingResult


class Failed(Wire):
    """The job cannot be trained; ``key`` of the trainer section is at fault, where one is."""

    type: Literal["failed"] = "failed"
    job_id: str
    code: str
    message: str
    key: str | None = None

    @classmethod
    def of(cls, failure: TrainingFailed, job_id: str) -> Self:
        """Return the report of a failure."""
        return cls(job_id=job_id, code=failure.code, message=failure.text, key=failure.key)

    @property
    def failure(self) -> TrainingFailed:
        """What the owner raises."""
        return TrainingFailed(self.code, self.message, key=self.key)


class Canceled(Wire):
    """The job was stopped as asked."""

    type: Literal["canceled"] = "canceled"
    job_id: str


_FIELDS: Final = frozenset({"phase", "step", "total", "checkpoint"})

Terminal = Finished | Failed | Canceled

COMMANDS: TypeAdapter[RunJob | CancelJob] = TypeAdapter(
    Annotated[RunJob | CancelJob, Field(discriminator="type")]
)
REPORTS: TypeAdapter[Progress | Terminal] = TypeAdapter(
    Annotated[Progress | Terminal, Field(discriminator="type")]
)
