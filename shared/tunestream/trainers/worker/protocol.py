"""What a worker and its owner say to each other: one JSON object a line.

What the worker prints goes another way, its standard error. A line there marks the end of a job's output.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter

from tunestream.events.base import FiniteFloat, Wire
from tunestream.trainers.port import JobSpec, TrainingFailed, TrainingResult

__all__ = [
    "COMMANDS",
    "REPORTS",
    "CancelJob",
    "Canceled",
    "Command",
    "Failed",
    "Finished",
    "Heartbeat",
    "Phase",
    "Progress",
    "Ready",
    "Report",
    "RunJob",
    "Terminal",
    "end_of_output",
]

Phase = Literal["loading", "training", "evaluating", "saving"]


class RunJob(Wire):
    """Train this."""

    type: Literal["run"] = "run"
    spec: JobSpec


class CancelJob(Wire):
    """Stop training this after the current step."""

    type: Literal["cancel"] = "cancel"
    job_id: str


class Heartbeat(Wire):
    """The owner lives."""

    type: Literal["heartbeat"] = "heartbeat"


class Ready(Wire):
    """The worker takes jobs now; ``seconds`` it took to get there."""

    type: Literal["ready"] = "ready"
    pid: int
    seconds: float


class Progress(Wire):
    """Where a job is; sent once a second, and whenever its phase changes."""

    type: Literal["progress"] = "progress"
    job_id: str
    phase: Phase = "loading"
    step: int = 0
    total: int = 0
    loss: FiniteFloat | None = None
    reward_accuracy: FiniteFloat | None = None
    reward_margin: FiniteFloat | None = None
    token_accuracy: FiniteFloat | None = None
    clip_fraction: FiniteFloat | None = None
    checkpoint: int = Field(default=0, description="step of the latest stored checkpoint")

    @property
    def percent(self) -> float:
        """Finished steps, 0 to 100."""
        return 100.0 * self.step / self.total if self.total else 0.0


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


Command = Annotated[RunJob | CancelJob | Heartbeat, Field(discriminator="type")]
Terminal = Finished | Failed | Canceled
Report = Annotated[Ready | Progress | Finished | Failed | Canceled, Field(discriminator="type")]

COMMANDS: TypeAdapter[Command] = TypeAdapter(Command)
REPORTS: TypeAdapter[Report] = TypeAdapter(Report)


def end_of_output(job_id: str) -> bytes:
    """Return the line behind everything that a job printed; no library prints its first character."""
    return f"\x1eend {job_id}\n".encode()
