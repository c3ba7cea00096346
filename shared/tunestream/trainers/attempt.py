"""One attempt of a job through the port: what every caller of a backend does around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from tunestream.trainers.attempt_log import AttemptLogWriter
from tunestream.trainers.port import (
    Backend,
    Checkpoint,
    JobReport,
    JobSpec,
    LogLine,
    Progress,
    TrainingCanceled,
    TrainingFailed,
    TrainingResult,
)
from tunestream.trainers.redaction import Redactor

__all__ = ["as_training_failure", "train_once"]

log = structlog.get_logger(__name__)


@contextmanager
def as_training_failure() -> Iterator[None]:
    """Turn every error that a backend raises into a reason why the attempt ends.

    Raises:
        TrainingFailed: instead of the backend's own errors.
    """
    try:
        yield
    except (TrainingFailed, TrainingCanceled):
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise TrainingFailed("backend_error", "the backend canceled a task of its own") from error
    except Exception as error:
        log.exception("backend.fault")
        raise TrainingFailed("backend_error", f"{type(error).__name__}: {error}") from error


async def train_once(
    backend: Backend, spec: JobSpec, report: Callable[[Progress | Checkpoint], None]
) -> TrainingResult:
    """Await :meth:`Backend.train`, and keep what it logs in the artifact store, as the log of the attempt.

    Args:
        backend: trains.
        spec: the job and its attempt.
        report: takes how far it is.

    Raises:
        TrainingFailed: when it cannot be trained; with ``backend_error`` for the backend's own faults, and
            ``bad_result`` when it returns no :class:`TrainingResult`.
        TrainingCanceled: when the service that trains it canceled it.
    """
    lines, redact = AttemptLogWriter(spec), Redactor()

    def sort(one: JobReport) -> None:
        if isinstance(one, LogLine):
            lines.append("output", redact(one.line))
        else:
            report(one)

    try:
        with as_training_failure():
            result = await backend.train(spec, sort)
    finally:
        await lines.close()
    if not isinstance(result, TrainingResult):
        raise TrainingFailed("bad_result", f"the backend returned no TrainingResult but {result!r}")
    return result
