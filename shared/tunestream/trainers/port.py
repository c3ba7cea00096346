"""The port for training: what a backend offers, and what passes through it.

The caller (the service's attempt, an experiment, the harness, a third party) awaits :meth:`Backend.train`.
Nothing polls: a backend reports while it trains, returns the result, raises :class:`TrainingFailed`, or is
cancelled with a reason (:class:`Stop`).
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable
from enum import StrEnum
from typing import Literal, Protocol, Self

from pydantic import Field, model_validator

from tunestream.config.run.trainers import Trainer
from tunestream.events.base import FiniteFloat, Identifier, Wire
from tunestream.events.models import Artifact, JudgedRow
from tunestream.events.training import DatasetFile

__all__ = [
    "Backend",
    "Checkpoint",
    "JobReport",
    "JobSpec",
    "LogLine",
    "Phase",
    "Progress",
    "Report",
    "Start",
    "Stop",
    "TrainingCanceled",
    "TrainingFailed",
    "TrainingResult",
    "stop_of",
]


class TrainingFailed(Exception):
    """A job cannot be trained.

    Attributes:
        code: the reason's stable name, e.g. ``out_of_memory``.
        text: for people: what is wrong and what to do about it.
        key: of the trainer section, where one is at fault, e.g. ``model.hf_model_ckpt``.
    """

    def __init__(self, code: str, text: str, *, key: str | None = None) -> None:
        super().__init__(code, text, key)
        self.code = code
        self.text = text
        self.key = key

    def __str__(self) -> str:
        return self.message

    @property
    def message(self) -> str:
        """The text behind the key as it stands in a run's file."""
        return self.message_in("trainer.")

    def message_in(self, prefix: str) -> str:
        """Return the text behind the key, in a file whose trainer section has this prefix, e.g. ""."""
        return self.text if self.key is None else f"{prefix}{self.key}: {self.text}"


class TrainingCanceled(Exception):
    """A job ended without a model, though nothing failed: its service, or somebody there, canceled it.

    Attributes:
        code: the reason's stable name, e.g. ``canceled``.
        message: for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Stop(StrEnum):
    """Why a job is stopped: the message with which the task of :meth:`Backend.train` is cancelled."""

    CANCELED = "canceled"
    """Somebody canceled the job: end it everywhere, also where a service trains it."""
    SHUTDOWN = "shutdown"
    """This process ends: keep what the next attempt continues from; a service trains on."""
    LOST = "lost"
    """Another attempt owns the job: stop what runs here; a service trains on, its new owner watches it."""


def stop_of(error: CancelledError) -> Stop:
    """Return why a job was stopped; a cancellation without a reason is the end of the process."""
    reason = error.args[0] if error.args else None
    return reason if isinstance(reason, Stop) else Stop.SHUTDOWN


class Start(StrEnum):
    """From which weights a backend's job starts."""

    HEAD = "head"
    """The version in :attr:`JobSpec.parent`."""
    BASE = "base"
    """The base model, also when versions were trained before."""
    LATEST = "latest"
    """What the service trained last under the model's name."""


class JobSpec(Wire):
    """What to train, from what, and where to put it.

    ``train`` may be None where a TrajectoryCollection with the rows goes along.
    """

    run_id: Identifier
    job_id: Identifier = Field(pattern=r"^[A-Za-z0-9._-]+$", description="also names the job's checkpoints")
    attempt: int = Field(default=1, ge=1)
    config: Trainer
    artifacts: str = Field(description="the artifact store's URL")
    train: DatasetFile | None = None
    validation: DatasetFile | None = None
    parent: Artifact | None = Field(default=None, description="the current version; None for the base model")
    judging: list[DatasetFile] = Field(
        default_factory=list, description="held-out rows of earlier batches, the latest first"
    )
    judging_rows: int = Field(default=1000, ge=0, description="the most of them that are judged")

    @model_validator(mode="after")
    def _validation_needs_train(self) -> Self:
        if self.validation is not None and self.train is None:
            raise ValueError("validation needs train: held-out rows are of the same window")
        return self


class TrainingResult(Wire):
    """What a job made.

    ``metrics`` holds what was measured, e.g. ``train_loss``, ``steps``, ``seconds``, ``tokens_per_second``,
    what was logged last, and of held-out rows ``validation_…``, before and after the training.
    """

    artifact: Artifact
    metrics: dict[str, FiniteFloat] = Field(default_factory=dict)
    rows_used: int = Field(ge=1)
    rows_skipped: dict[str, int] = Field(
        default_factory=dict, description="rows left out of the training, by reason"
    )
    message: str
    curve: list[dict[str, FiniteFloat]] = Field(
        default_factory=list,
        description="step, loss, learning_rate and the like as logged, at most 1,000 of them",
    )
    judged: list[JudgedRow] = Field(
        default_factory=list,
        description="the rows of ``judging``, or the best and the worst episode of each of their groups, "
        "under the parent and under the new version",
    )


Phase = Literal["loading", "training", "evaluating", "saving"]


class Progress(Wire):
    """Where a job is, with what was measured last; sent once a second, and when the phase changes."""

    type: Literal["progress"] = "progress"
    percent: float = Field(default=0.0, ge=0.0, le=100.0, description="finished share; it never falls")
    message: str = Field(default="", description="for people; by default made of phase and step")
    phase: Phase | None = None
    step: int = Field(default=0, ge=0)
    total: int = Field(default=0, ge=0, description="steps of the job; 0 while unknown")
    metrics: dict[str, FiniteFloat] = Field(
        default_factory=dict, description="loss, reward_accuracy, reward_margin and the like"
    )

    @property
    def text(self) -> str:
        """What people read."""
        if self.message or self.phase is None:
            return self.message or "it trains"
        return f"{self.phase}, step {self.step} of {self.total}"


class Checkpoint(Wire):
    """A checkpoint lies whole in the artifact store: a later attempt continues from it."""

    type: Literal["checkpoint"] = "checkpoint"
    step: int = Field(ge=1)


class LogLine(Wire):
    """A line for the job's log, without its end."""

    type: Literal["log"] = "log"
    line: str


JobReport = Progress | Checkpoint | LogLine
Report = Callable[[JobReport], None]
"""Takes reports of one job, in the thread of the event loop.

It returns at once and never raises. Of progress the latest counts; of too many lines the beginning and the
end stay.
"""


class Backend(Protocol):
    """Trains jobs of one trainer section.

    One object serves many jobs, one after the other or side by side; it is closed at the end.
    """

    async def check(self) -> None:
        """Ask whether jobs can be trained now, and get ready: a service is asked, a worker started.

        Raises:
            TrainingFailed: when they cannot, with the reason.
        """

    async def train(self, spec: JobSpec, report: Report) -> TrainingResult:
        """Train a job.

        The job's id and attempt name it: a call that comes again, here or in another process, continues from
        what the earlier one left (a checkpoint, a job in a service) and trains nothing twice side by side.

        The caller stops a job by cancelling this call's task with a :class:`Stop` as the message.

        Args:
            spec: the job; its rows, parent and checkpoints lie in its artifact store.
            report: takes what happens meanwhile.

        Raises:
            TrainingFailed: when it cannot be trained.
            TrainingCanceled: when the service that trains it canceled it.
        """

    async def close(self) -> None:
        """Release everything: processes, connections. Harmless when repeated.

        Callers stop their jobs before. A backend with processes of its own ends what runs in them all the
        same.
        """
