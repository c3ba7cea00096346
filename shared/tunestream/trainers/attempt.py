"""One attempt of a job through the port: what every caller of a backend does around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import structlog

from tunestream.artifacts import ArtifactStore, AttemptLog, LogStore
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

__all__ = ["as_training_failure", "train_once"]

log = structlog.get_logger(__name__)
_FLUSH_SECONDS: Final = 2.0


@contextmanager
def as_training_failure() -> Iterator[None]:
    """Make a reason why the attempt ends of whatever a backend raises.

    Raises:
        TrainingFailed: instead of the backend's own errors.
    """
    try:
        yield
    except (TrainingFailed, TrainingCanceled):
        raise
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
    lines = _Lines(spec)

    def sort(one: JobReport) -> None:
        if isinstance(one, LogLine):
            lines.append(one.line)
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


class _Lines:
    """The lines that a backend reports. A store that is away costs lines, never the training."""

    def __init__(self, spec: JobSpec) -> None:
        self._log = AttemptLog(LogStore(ArtifactStore(spec.artifacts), spec.job_id), spec.attempt)
        self._writing: asyncio.Task[None] | None = None

    def append(self, line: str) -> None:
        """Remember a line, and begin to write when it is the first."""
        self._log.append(datetime.now(UTC), "output", line)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name="attempt-log")

    async def close(self) -> None:
        """Write what is left."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait({self._writing})
            await self._flush()

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            await asyncio.shield(asyncio.create_task(self._flush()))

    async def _flush(self) -> None:
        try:
            await asyncio.to_thread(self._log.flush, datetime.now(UTC))
        except Exception as error:  # noqa: BLE001 - whatever the file system raises
            log.warning("job.log_unwritten", reason=f"{type(error).__name__}: {error}")
