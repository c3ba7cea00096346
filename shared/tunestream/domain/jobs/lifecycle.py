"""The life of a training job: one table of transitions, and the functions that follow it.

A step takes a job's latest record and gives its next one together with the status that announces it.
Both belong in one transaction. Sequences of statuses count from 0 without gaps; progress never falls.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from tunestream.events.ids import job_id
from tunestream.events.training import (
    BrokenAttempt,
    JobRecord,
    TrainingBatch,
    TrainingJobStatus,
    TrainingStatusEnum,
)

__all__ = [
    "OWNER_DIED",
    "TERMINAL",
    "TRANSITIONS",
    "InvalidTransition",
    "JobStep",
    "break_off",
    "cancel",
    "complete",
    "create",
    "fail",
    "report",
    "start",
]

_PENDING: Final = TrainingStatusEnum.PENDING
_RUNNING: Final = TrainingStatusEnum.RUNNING
_COMPLETED: Final = TrainingStatusEnum.COMPLETED
_FAILED: Final = TrainingStatusEnum.FAILED
_CANCELED: Final = TrainingStatusEnum.CANCELED

TRANSITIONS: Final[Mapping[TrainingStatusEnum, frozenset[TrainingStatusEnum]]] = {
    _PENDING: frozenset({_RUNNING, _FAILED, _CANCELED}),
    _RUNNING: frozenset({_COMPLETED, _FAILED, _CANCELED}),
    _COMPLETED: frozenset(),
    _FAILED: frozenset(),
    _CANCELED: frozenset(),
}
OWNER_DIED: Final = "owner_died"
_MESSAGE_CHARACTERS: Final = 1000
TERMINAL: Final = frozenset(state for state, following in TRANSITIONS.items() if not following)


class InvalidTransition(Exception):
    """A job cannot go from its state to the one asked for."""

    def __init__(self, job: JobRecord, target: TrainingStatusEnum) -> None:
        super().__init__(f"job {job.job_id} is {job.status.value} and cannot become {target.value}")


class JobStep(NamedTuple):
    """A job's next record, and the status that announces it."""

    record: JobRecord
    status: TrainingJobStatus


def create(
    batch: TrainingBatch, *, backend: str, now: datetime, submission: int = 1, resumes: str | None = None
) -> JobStep:
    """Make the one job of a batch, or that of a later ``submission`` of it, PENDING."""
    record = JobRecord(
        run_id=batch.run_id,
        job_id=job_id(batch.run_id, batch.batch_id, submission),
        batch=batch,
        backend=backend,
        status=_PENDING,
        created=now,
        updated=now,
        submission=submission,
        resumes=resumes,
    )
    return _announce(record, {})


def start(job: JobRecord, *, parent_version: str | None, now: datetime) -> JobStep:
    """Begin the next attempt of a job.

    A job that is RUNNING already keeps the parent it began with. When no reason was reported why its
    attempt broke off, its owner died.

    Args:
        job: a PENDING or RUNNING job.
        parent_version: the run's current version; None for the base model.
        now: when.

    Raises:
        InvalidTransition: when the job is terminal.
    """
    changes: dict[str, Any] = {"attempt": job.attempt + 1, "message": f"attempt {job.attempt + 1} started"}
    if job.status is _RUNNING:
        if not any(broken.attempt == job.attempt for broken in job.broken):
            message = "the trainer died, or its partition went to another one"
            changes["broken"] = _with_broken(job, OWNER_DIED, message, now)
        return _next(job, now, changes, {"attempt": job.attempt + 1})
    _check(job, _RUNNING)
    changes |= {"status": _RUNNING, "parent_version": parent_version, "progress": 0.0}
    return _next(job, now, changes, {"attempt": job.attempt + 1})


def report(
    job: JobRecord, *, progress: float, message: str, metrics: Mapping[str, Any], now: datetime
) -> JobStep:
    """Report how far a RUNNING job is; ``progress`` in per cent is bounded and never falls.

    Raises:
        InvalidTransition: when the job is not RUNNING.
    """
    if job.status is not _RUNNING:
        raise InvalidTransition(job, _RUNNING)
    bounded = max(job.progress or 0.0, min(progress, 100.0))
    return _next(job, now, {"progress": bounded, "message": message}, metrics)


def break_off(job: JobRecord, *, code: str, message: str, now: datetime) -> JobStep:
    """Report why the attempt of a RUNNING job ended without the job's end.

    Raises:
        InvalidTransition: when the job is not RUNNING.
    """
    if job.status is not _RUNNING:
        raise InvalidTransition(job, _RUNNING)
    reason = f"attempt {job.attempt} broke off: {message}"
    changes = {"message": reason, "broken": _with_broken(job, code, message, now)}
    return _next(job, now, changes, {"broken_attempt": job.attempt, "broken_by": code})


def complete(
    job: JobRecord, *, version: str, message: str, metrics: Mapping[str, Any], now: datetime
) -> JobStep:
    """End a RUNNING job with the version that it made.

    Raises:
        InvalidTransition: when the job is not RUNNING.
    """
    _check(job, _COMPLETED)
    changes = {"status": _COMPLETED, "version": version, "progress": 100.0, "message": message}
    return _next(job, now, changes, {**metrics, "version": version})


def fail(job: JobRecord, *, code: str, message: str, now: datetime) -> JobStep:
    """End a job that cannot be trained; ``code`` is a stable name for why.

    Attempts that broke off before are named in the message.

    Raises:
        InvalidTransition: when the job is terminal already.
    """
    _check(job, _FAILED)
    earlier = [f"attempt {one.attempt} as {one.code}" for one in job.broken if one.attempt < job.attempt]
    if earlier:
        message = f"{message} (broken off before: {', '.join(earlier)})"
    return _next(job, now, {"status": _FAILED, "message": message}, {"reason": code})


def cancel(job: JobRecord, *, code: str, message: str, now: datetime) -> JobStep:
    """End a job that should not be trained, e.g. with the code ``stale``.

    Raises:
        InvalidTransition: when the job is terminal already.
    """
    _check(job, _CANCELED)
    return _next(job, now, {"status": _CANCELED, "message": message}, {"reason": code})


def _with_broken(job: JobRecord, code: str, message: str, now: datetime) -> list[BrokenAttempt]:
    short = message[:_MESSAGE_CHARACTERS]
    return [*job.broken, BrokenAttempt(attempt=job.attempt, code=code, reason=short, time=now)]


def _check(job: JobRecord, target: TrainingStatusEnum) -> None:
    if target not in TRANSITIONS[job.status]:
        raise InvalidTransition(job, target)


def _next(job: JobRecord, now: datetime, changes: Mapping[str, Any], metadata: Mapping[str, Any]) -> JobStep:
    step = {"sequence": job.sequence + 1, "updated": now}
    return _announce(job.model_copy(update={**changes, **step}), metadata)


def _announce(job: JobRecord, metadata: Mapping[str, Any]) -> JobStep:
    status = TrainingJobStatus(
        run_id=job.run_id,
        backend=job.backend,
        status=job.status,
        progress=job.progress,
        message=job.message,
        metadata=dict(metadata) or None,
        job_id=job.job_id,
        sequence=job.sequence,
        time=job.updated,
    )
    return JobStep(job, status)
