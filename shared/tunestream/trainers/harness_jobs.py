"""What the harness remembers of its jobs: the only job table of the trainers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from tunestream.events.training import TrainingJobRef, TrainingJobStatus, TrainingStatusEnum
from tunestream.trainers.port import (
    Checkpoint,
    JobSpec,
    Progress,
    Stop,
    TrainingCanceled,
    TrainingFailed,
    TrainingResult,
)
from tunestream.trainers.standing import Standing

__all__ = ["SubmittedJob", "SubmittedJobs", "UnknownJob"]

log = structlog.get_logger(__name__)
_REMEMBERED: Final = 1000  # finished jobs whose status can still be asked for
_RUNNING, _COMPLETED = TrainingStatusEnum.RUNNING, TrainingStatusEnum.COMPLETED
_FAILED, _CANCELED = TrainingStatusEnum.FAILED, TrainingStatusEnum.CANCELED


class UnknownJob(ValueError):
    """A reference names a job that an adapter never took."""

    def __init__(self, ref: TrainingJobRef) -> None:
        super().__init__(f"no job {ref.metadata} of run {ref.run_id!r} was submitted to this adapter")


class SubmittedJob:
    """One job and its latest status.

    Args:
        spec: with the attempt that trains.
        backend: the name in references and statuses.
        ours: nobody else counts its attempts.
        outlives: it goes on elsewhere when this process ends.

    Attributes:
        status: the latest.
        began: it does not wait for its turn any more.
        ended: nothing here trains or watches it any more.
    """

    task: asyncio.Task[TrainingResult]

    def __init__(self, spec: JobSpec, backend: str, *, ours: bool, outlives: bool) -> None:
        self.spec = spec
        self.ours = ours
        self.began = False
        self.ended = asyncio.Event()
        self.status = TrainingJobStatus(
            run_id=spec.run_id,
            backend=backend,
            status=TrainingStatusEnum.PENDING,
            job_id=spec.job_id,
            sequence=0,
            time=datetime.now(UTC),
        )
        self._outlives = outlives
        self._standing = Standing()
        self._stop: Stop | None = None
        self._why = ("canceled", "canceled as asked")

    @property
    def ref(self) -> TrainingJobRef:
        """What names the job, also after a restart."""
        status = self.status
        return TrainingJobRef(
            run_id=status.run_id, backend=status.backend, metadata={"job_id": status.job_id}
        )

    @property
    def is_terminal(self) -> bool:
        """Whether the status is the last one."""
        return self.status.status in {_COMPLETED, _FAILED, _CANCELED}

    @property
    def failed(self) -> bool:
        """Whether the job ended without a model."""
        return self.status.status in {_FAILED, _CANCELED}

    def start(self, training: Coroutine[Any, Any, TrainingResult]) -> None:
        """Train in the background."""
        self.task = asyncio.create_task(training, name=f"train-{self.spec.job_id}")
        self.task.add_done_callback(self._conclude)

    def stop(self, stop: Stop, code: str, message: str) -> None:
        """Stop the job once, unless it is finished; code and message go into its last status."""
        if self._stop is None and not self.task.done():
            self._stop, self._why = stop, (code, message)
            self.task.cancel(stop)

    def begin(self) -> None:
        """Take over that an attempt starts; what was finished before stays."""
        self.began = True
        progress, message = self.status.progress or 0.0, f"attempt {self.spec.attempt} started"
        self._update(status=_RUNNING, progress=progress, message=message)

    def next_attempt(self, failure: TrainingFailed) -> int:
        """Begin another attempt after a failure; return its number."""
        del failure
        self.spec = self.spec.model_copy(update={"attempt": self.spec.attempt + 1})
        self.begin()
        return self.spec.attempt

    def take(self, report: Progress | Checkpoint) -> None:
        """Take over a report; the per cent never fall."""
        self._standing.take(report)
        progress = self._standing.progress
        self._update(
            progress=max(self.status.progress or 0.0, progress.percent),
            message=progress.text,
            metadata=self._standing.metadata() or None,
        )

    def _conclude(self, task: asyncio.Task[TrainingResult]) -> None:
        if task.cancelled():
            if self._stop is not Stop.SHUTDOWN or not self._outlives:
                self._end(_CANCELED, *self._why)
        elif (error := task.exception()) is None:
            result = task.result()
            metadata = result.model_dump(mode="json")
            self._update(status=_COMPLETED, progress=100.0, message=result.message, metadata=metadata)
        elif isinstance(error, TrainingCanceled):
            self._end(_CANCELED, error.code, error.message)
        elif isinstance(error, TrainingFailed):
            self._end(_FAILED, error.code, error.message)
        else:
            log.error("job.fault", exc_info=error)
            self._end(_FAILED, "internal", f"{type(error).__name__}: {error}")
        self.ended.set()

    def _end(self, status: TrainingStatusEnum, code: str, message: str) -> None:
        self._update(status=status, message=message, metadata={"reason": code})

    def _update(self, **changes: Any) -> None:
        step = {"sequence": self.status.sequence + 1, "time": datetime.now(UTC)}
        self.status = self.status.model_copy(update={**changes, **step})


class SubmittedJobs:
    """The jobs of an adapter: those that run, and the latest 1,000 that are finished."""

    def __init__(self) -> None:
        self._jobs: dict[tuple[str, str], SubmittedJob] = {}

    def find(self, run_id: str, job_id: str) -> SubmittedJob | None:
        """Return a job, None when it is unknown."""
        return self._jobs.get((run_id, job_id))

    def add(self, job: SubmittedJob) -> None:
        """Remember a job, in the place of an earlier attempt of it."""
        key = (job.spec.run_id, job.spec.job_id)
        self._jobs.pop(key, None)
        self._jobs[key] = job
        finished = [key for key, one in self._jobs.items() if one.ended.is_set()]
        for key in finished[:-_REMEMBERED]:
            del self._jobs[key]

    def unfinished(self) -> list[SubmittedJob]:
        """Return what runs or waits for its turn."""
        return [job for job in self._jobs.values() if not job.ended.is_set()]
