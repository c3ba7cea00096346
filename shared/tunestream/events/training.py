"""Batches, jobs, statuses and commands.

TrainingJobRef, TrainingStatusEnum and TrainingJobStatus have the names and fields of the NeMo Agent
Toolkit's harness; ``job_id``, ``sequence`` and ``time`` are ours.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from tunestream.events.base import FiniteFloat, Identifier, Metadata, Wire
from tunestream.events.registry import event_type

__all__ = [
    "BrokenAttempt",
    "ControlCommand",
    "ControlResult",
    "CurriculumState",
    "DatasetFile",
    "JobRecord",
    "Objective",
    "Progress",
    "TrainingBatch",
    "TrainingJobRef",
    "TrainingJobStatus",
    "TrainingStatusEnum",
]

Progress = Annotated[FiniteFloat, Field(ge=0.0, le=100.0, description="per cent")]


class Objective(StrEnum):
    """What a job optimises."""

    DPO = "dpo"
    SFT = "sft"
    GRPO = "grpo"
    KTO = "kto"


class CurriculumState(Wire):
    """Where the curriculum of one run stands; field names of the reference."""

    current_percentile: FiniteFloat = Field(gt=0.0, le=1.0)
    last_expansion_epoch: int = -1
    total_groups: int = Field(default=0, ge=0)
    included_groups: list[int] = Field(
        default_factory=list, description="positions in the filtered ranking of the last epoch"
    )


class DatasetFile(Wire):
    """A JSONL file in the artifact store, named by its content."""

    uri: str
    sha256: str
    rows: int = Field(ge=0)
    size: int = Field(ge=0, description="bytes")


@event_type("tunestream.training_batch.v1")
class TrainingBatch(Wire):
    """What a job trains on: one curriculum window that passed, or a dataset that was submitted."""

    run_id: Identifier
    batch_id: Identifier
    config_digest: str
    objective: Objective
    epoch: int = Field(ge=0, description="number of the window within (run, configuration)")
    train: DatasetFile
    validation: DatasetFile | None
    groups: int = Field(ge=1, description="groups selected")
    dropped: dict[str, int] = Field(default_factory=dict, description="groups left out, by reason")
    curriculum: CurriculumState
    policy_versions: list[str] = Field(description="that gave the candidates, sorted, without repeats")
    unversioned_rows: int = Field(default=0, ge=0, description="rows without a policy version")
    origin: Literal["stream", "submitted"] = Field(
        default="stream", description="a window of the stream, or a dataset that somebody submitted"
    )


class TrainingStatusEnum(StrEnum):
    """The states of a job."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


class TrainingJobRef(Wire):
    """Names a job of a backend."""

    run_id: str
    backend: str
    metadata: Metadata | None = None


@event_type("tunestream.training_status.v1")
class TrainingJobStatus(Wire):
    """One status of a job; ``sequence`` counts from 0 without gaps within a job."""

    run_id: str
    backend: str
    status: TrainingStatusEnum
    progress: Progress | None = None
    message: str | None = None
    metadata: Metadata | None = None
    job_id: Identifier
    sequence: int = Field(ge=0)
    time: AwareDatetime


class BrokenAttempt(Wire):
    """An attempt that ended without the job's end: another one may succeed."""

    attempt: int = Field(ge=1)
    code: str = Field(description="the reason's stable name")
    reason: str = Field(description="for people")
    time: AwareDatetime


@event_type("tunestream.job.v1")
class JobRecord(Wire):
    """The latest state of a job: the trainer's changelog and work list."""

    run_id: Identifier
    job_id: Identifier
    batch: TrainingBatch
    backend: str
    status: TrainingStatusEnum
    created: AwareDatetime
    updated: AwareDatetime
    sequence: int = Field(default=0, ge=0, description="of the latest status")
    attempt: int = Field(default=0, ge=0, description="of the worker that may commit; 0 before the first")
    progress: Progress | None = None
    message: str | None = None
    parent_version: str | None = Field(default=None, description="the run's current version at the start")
    version: str | None = Field(default=None, description="the version that the job made")
    submission: int = Field(default=1, ge=1, description="of the batch: each makes a job of its own")
    resumes: str | None = Field(
        default=None, description="the canceled job of the batch whose checkpoints may be gone on from"
    )
    broken: list[BrokenAttempt] = Field(
        default_factory=list, description="attempts that broke off, the oldest first"
    )


@event_type("tunestream.control_command.v1")
class ControlCommand(Wire):
    """A command to the owner of a run.

    ``submit`` names a ``batch``, or a known one by ``batch_id`` or by a ``job_id`` that it had; ``cancel``
    a ``job_id``; ``promote`` a ``version``; ``rollback`` a ``version`` or none for the one before.
    """

    run_id: Identifier
    command_id: Identifier
    action: Literal["submit", "cancel", "promote", "rollback"]
    job_id: str | None = None
    batch_id: str | None = None
    version: str | None = None
    expected_generation: int | None = Field(default=None, ge=0)
    batch: TrainingBatch | None = Field(default=None, description="a dataset to train on")
    force: bool = Field(default=False, description="take a version although its evaluation rejected it")


@event_type("tunestream.control_result.v1")
class ControlResult(Wire):
    """The owner's answer to a command."""

    run_id: Identifier
    command_id: Identifier
    accepted: bool
    reason: str
    generation: int | None = None
    job_id: str | None = Field(default=None, description="the job that a submission made")
