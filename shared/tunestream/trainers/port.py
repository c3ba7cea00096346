"""The protocol of a training backend and what passes through it."""

from __future__ import annotations

from typing import Final, Protocol, Self

from pydantic import Field, model_validator

from tunestream.config.run.trainers import Trainer
from tunestream.events import (
    Artifact,
    DatasetFile,
    JudgedRow,
    TrainingJobRef,
    TrainingJobStatus,
    TrajectoryCollection,
)
from tunestream.events.base import FiniteFloat, Identifier, Wire

__all__ = [
    "JobSpec",
    "TrainerAdapter",
    "TrainingFailed",
    "TrainingResult",
    "UnknownJob",
    "is_infrastructure",
]

_INFRASTRUCTURE: Final = frozenset(
    {
        "worker_died",
        "store_unreachable",
        "service_unreachable",
        "unhealthy",
        "job_vanished",
        "closed",
        "internal",
        "backend_error",
    }
)


class TrainingFailed(Exception):
    """A job cannot be trained.

    Attributes:
        code: the reason's stable name, e.g. ``out_of_memory``.
        message: for people: what is wrong and what to do about it.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def is_infrastructure(code: str) -> bool:
    """Tell whether another attempt may succeed though nobody changes the job: the one table of such codes."""
    return code in _INFRASTRUCTURE


class UnknownJob(ValueError):
    """A reference names a job that this adapter never took."""

    def __init__(self, ref: TrainingJobRef) -> None:
        super().__init__(f"no job {ref.metadata} of run {ref.run_id!r} was submitted to this adapter")


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

    ``metrics`` holds ``train_loss``, ``steps``, ``rows``, ``seconds``, ``train_seconds``,
    ``tokens_per_second``, what was logged last (``reward_accuracy`` and ``reward_margin``,
    ``token_accuracy`` or ``clip_fraction``), and of held-out rows, before and after the training:

    - of preferences: ``validation_rows``, ``validation_accuracy_before`` and ``_after`` (share of rows
      whose chosen response is the likelier one), ``validation_margin_before`` and ``_after`` (mean
      difference of log-probabilities, nats); with dpo and kto also ``validation_reward_accuracy`` and
      ``validation_reward_margin`` (the implicit reward against the parent version);
    - of responses (sft): ``validation_responses``, ``validation_loss_before`` and ``_after`` (nats a
      token), ``validation_token_accuracy_before`` and ``_after``;
    - of episodes (grpo): ``validation_rows``, ``validation_advantage_gain`` (mean of advantage x gained
      log-probability, nats) and ``validation_logprob_gap`` (mean distance a token of the recorded
      log-probabilities from the parent's).
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


class TrainerAdapter(Protocol):
    """A backend that trains.

    The names are those of the NeMo Agent Toolkit's harness; ``job``, ``cancel`` and ``close`` are ours.
    """

    async def initialize(self) -> None:
        """Make the backend ready.

        Raises:
            TrainingFailed: when it cannot be reached or lacks something.
        """

    async def is_healthy(self) -> bool:
        """Ask whether jobs can be run; where the backend has no ``check``, before :meth:`initialize` too."""

    async def submit(
        self, trajectories: TrajectoryCollection, *, job: JobSpec | None = None
    ) -> TrainingJobRef:
        """Take a job and return at once. A job that was taken before is not taken again.

        Args:
            trajectories: what to train on, unless ``job`` names stored datasets.
            job: names the job and its parent version; by default both follow from the trajectories.

        Raises:
            ValueError: when there is nothing to train on, or nothing that this backend can train.
        """

    async def status(self, ref: TrainingJobRef) -> TrainingJobStatus:
        """Return a job's latest status; a finished one's again and again.

        The metadata of a completed job holds its :class:`TrainingResult`, that of a failed one a
        ``reason``.

        Raises:
            UnknownJob: when the job was never submitted.
        """

    async def wait_until_complete(
        self, ref: TrainingJobRef, poll_interval: float = 10.0
    ) -> TrainingJobStatus:
        """Return the terminal status; ``poll_interval`` in seconds.

        Raises:
            UnknownJob: when the job was never submitted.
        """

    async def cancel(self, ref: TrainingJobRef) -> None:
        """End a job as CANCELED, unless it is finished.

        Raises:
            UnknownJob: when the job was never submitted.
        """

    async def close(self) -> None:
        """Stop everything that runs; further calls are harmless."""
