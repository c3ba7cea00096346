"""Adapters that train in a worker process of this machine, one job at a time."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from tunestream.config.run.trainers import Trainer
from tunestream.events.ids import stable_id
from tunestream.events.models import Artifact
from tunestream.events.training import DatasetFile, TrainingJobRef, TrainingJobStatus, TrainingStatusEnum
from tunestream.events.trajectories import TrajectoryCollection
from tunestream.trainers.port import JobSpec, TrainingFailed, UnknownJob
from tunestream.trainers.worker.handle import WorkerDied, WorkerHandle
from tunestream.trainers.worker.protocol import Canceled, Failed, Finished, Progress, Terminal

__all__ = ["Work", "WorkerAdapter"]

_REMEMBERED: Final = 1000  # finished jobs whose status can still be asked for
_TERMINAL: Final = frozenset(
    {TrainingStatusEnum.COMPLETED, TrainingStatusEnum.FAILED, TrainingStatusEnum.CANCELED}
)


@dataclass(slots=True)
class _Job:
    spec: JobSpec
    status: TrainingJobStatus
    ours: bool  # nobody else counts its attempts
    cancel_wanted: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """What a job is to do: its configuration with its objective, and its rows in the artifact store."""

    config: Trainer
    train: DatasetFile


class WorkerAdapter(ABC):
    """Runs jobs in order of submission.

    A job without a :class:`JobSpec` continues from the adapter's last version of its run, and is tried
    again when its worker dies, ``max_attempts`` times in all. A job with one is tried once, as its attempt:
    whoever counts attempts decides about the next.

    Args:
        artifacts: URL of the artifact store.
        worker: does the work.
        owns_worker: whether closing the adapter ends the worker.
        max_attempts: of jobs without a JobSpec.
    """

    backend: ClassVar[str]
    """The name in references and statuses."""
    canceled: str = "canceled as asked"
    """What the status of a job says that was cancelled while it ran."""

    def __init__(
        self, *, artifacts: str, worker: WorkerHandle, owns_worker: bool = True, max_attempts: int = 3
    ) -> None:
        self._artifacts = artifacts
        self._worker = worker
        self._owns_worker = owns_worker
        self._max_attempts = max_attempts
        self._jobs: dict[str, _Job] = {}
        self._current: dict[str, Artifact] = {}
        self._turn = asyncio.Lock()

    @abstractmethod
    async def _prepare(self, trajectories: TrajectoryCollection, job: JobSpec | None) -> Work:
        """Settle what is trained on, and how.

        Raises:
            ValueError: when there is nothing to train on, or nothing that this backend can train.
        """

    @abstractmethod
    async def _forget(self, job_id: str) -> None:
        """Remove what a finished job without a JobSpec needs no more."""

    async def submit(
        self, trajectories: TrajectoryCollection, *, job: JobSpec | None = None
    ) -> TrainingJobRef:
        """Take a job; see :class:`~tunestream.trainers.TrainerAdapter`."""
        work = await self._prepare(trajectories, job)
        spec = self._specify(trajectories.run_id, job, work)
        if self._is_new(spec, ours=job is None):
            self._accept(spec, ours=job is None)
        return TrainingJobRef(run_id=spec.run_id, backend=self.backend, metadata={"job_id": spec.job_id})

    async def status(self, ref: TrainingJobRef) -> TrainingJobStatus:
        """Return a job's latest status; see :class:`~tunestream.trainers.TrainerAdapter`."""
        return self._find(ref).status

    async def wait_until_complete(
        self,
        ref: TrainingJobRef,
        poll_interval: float = 10.0,  # noqa: ARG002 - nothing is polled here
    ) -> TrainingJobStatus:
        """Return the terminal status as soon as there is one."""
        job = self._find(ref)
        await job.done.wait()
        return job.status

    async def cancel(self, ref: TrainingJobRef) -> None:
        """End a job as CANCELED after its current step, unless it is finished."""
        self._find(ref).cancel_wanted = True

    async def close(self) -> None:
        """Cancel what runs and end the worker."""
        unfinished = [job for job in self._jobs.values() if not job.done.is_set()]
        tasks = [job.task for job in unfinished if job.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for job in unfinished:  # a task that was canceled before its first step did nothing at all
            _end(job, TrainingStatusEnum.CANCELED, "closed", "the trainer was closed")
            job.done.set()
        if self._owns_worker:
            await self._worker.close()

    def _specify(self, run_id: str, job: JobSpec | None, work: Work) -> JobSpec:
        config, train = work.config, work.train
        if job is not None:
            return job.model_copy(update={"config": config, "train": train})
        parent = self._current.get(run_id)
        return JobSpec(
            run_id=run_id,
            job_id=stable_id("job", run_id, train.sha256, (parent.sha256 or parent.uri) if parent else ""),
            config=config,
            artifacts=self._artifacts,
            train=train,
            parent=parent,
        )

    def _is_new(self, spec: JobSpec, *, ours: bool) -> bool:
        known = self._jobs.get(spec.job_id)
        if known is None or spec.attempt > known.spec.attempt:
            return True
        return ours and known.status.status in {TrainingStatusEnum.FAILED, TrainingStatusEnum.CANCELED}

    def _accept(self, spec: JobSpec, *, ours: bool) -> None:
        pending = TrainingJobStatus(
            run_id=spec.run_id,
            backend=self.backend,
            status=TrainingStatusEnum.PENDING,
            job_id=spec.job_id,
            sequence=0,
            time=datetime.now(UTC),
        )
        job = self._jobs[spec.job_id] = _Job(spec, pending, ours)
        job.task = asyncio.create_task(self._drive(job), name=f"train-{spec.job_id}")
        finished = [name for name, one in self._jobs.items() if one.done.is_set()]
        for name in finished[:-_REMEMBERED]:
            del self._jobs[name]

    def _find(self, ref: TrainingJobRef) -> _Job:
        job = self._jobs.get(str((ref.metadata or {}).get("job_id")))
        if job is None or job.spec.run_id != ref.run_id:
            raise UnknownJob(ref)
        return job

    async def _drive(self, job: _Job) -> None:
        try:
            async with self._turn:
                await self._attempts(job)
        except Exception as error:
            _end(job, TrainingStatusEnum.FAILED, "internal", f"{type(error).__name__}: {error}")
            raise
        finally:
            job.done.set()

    async def _attempts(self, job: _Job) -> None:
        for left in reversed(range(self._max_attempts if job.ours else 1)):
            if job.cancel_wanted:
                _end(job, TrainingStatusEnum.CANCELED, "canceled", "canceled before it started")
                return
            try:
                end = await self._attempt(job)
            except TrainingFailed as failure:
                _end(job, TrainingStatusEnum.FAILED, failure.code, failure.message)
                return
            except WorkerDied as death:
                if not left:
                    _end(job, TrainingStatusEnum.FAILED, "worker_died", str(death))
                    return
                job.spec = job.spec.model_copy(update={"attempt": job.spec.attempt + 1})
            else:
                await self._conclude(job, end)
                return

    async def _attempt(self, job: _Job) -> Terminal:
        progress = job.status.progress or 0.0  # of the attempt before
        message = f"attempt {job.spec.attempt} started"
        _tell(job, status=TrainingStatusEnum.RUNNING, progress=progress, message=message)
        async with contextlib.aclosing(self._worker.run(job.spec)) as reports:
            async for report in reports:
                if not isinstance(report, Progress):
                    return report
                _tell_progress(job, report)
                if job.cancel_wanted:
                    await self._worker.cancel(job.spec.job_id)
        raise WorkerDied("the worker said nothing about the end of its job")

    async def _conclude(self, job: _Job, end: Terminal) -> None:
        if isinstance(end, Canceled):
            _end(job, TrainingStatusEnum.CANCELED, "canceled", self.canceled)
        elif isinstance(end, Failed):
            _end(job, TrainingStatusEnum.FAILED, end.code, end.message)
        else:
            await self._complete(job, end)

    async def _complete(self, job: _Job, end: Finished) -> None:
        if job.ours:
            await self._forget(job.spec.job_id)
            self._current[job.spec.run_id] = end.result.artifact
        _tell(
            job,
            status=TrainingStatusEnum.COMPLETED,
            progress=100.0,
            message=end.result.message,
            metadata=end.result.model_dump(mode="json"),
        )


def _tell(job: _Job, **changes: Any) -> None:
    step = {"sequence": job.status.sequence + 1, "time": datetime.now(UTC)}
    job.status = job.status.model_copy(update={**changes, **step})


def _tell_progress(job: _Job, report: Progress) -> None:
    progress = max(job.status.progress or 0.0, report.percent)
    where = report.model_dump(include={"phase", "step", "total", "checkpoint"})
    message = f"{report.phase}, step {report.step} of {report.total}"
    _tell(job, progress=progress, message=message, metadata={**where, **report.metrics})


def _end(job: _Job, status: TrainingStatusEnum, reason: str, message: str) -> None:
    if job.status.status not in _TERMINAL:
        _tell(job, status=status, message=message, metadata={"reason": reason})
