"""The adapter of a small backend: who subclasses it says how one job is trained, and nothing else."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from tunestream.artifacts import ArtifactStore, put_rows
from tunestream.config.run.trainers import TrainerSection
from tunestream.events.ids import stable_id
from tunestream.events.training import TrainingJobRef, TrainingJobStatus, TrainingStatusEnum
from tunestream.events.trajectories import TrajectoryCollection
from tunestream.trainers.collection_rows import rows_of
from tunestream.trainers.port import JobSpec, TrainingFailed, TrainingResult, UnknownJob

__all__ = ["TaskAdapter"]

_REMEMBERED: Final = 1000  # finished jobs whose status can still be asked for


@dataclass(slots=True)
class _Job:
    spec: JobSpec
    task: asyncio.Task[TrainingResult]
    told: dict[str, Any] = field(default_factory=lambda: {"progress": 0.0, "message": "it trains"})
    sequence: int = 0
    time: datetime = field(default_factory=lambda: datetime.now(UTC))


class TaskAdapter(ABC):
    """Runs each job as an asyncio task of this process; a job is tried once, as its attempt.

    A higher attempt of a job takes the place of the one that ran.

    Subclasses have ``train`` and, where something can be asked, ``is_healthy``.

    Args:
        config: the run's trainer section.
        artifacts: URL of the artifact store.
    """

    def __init__(self, config: TrainerSection, artifacts: str) -> None:
        self.config = config
        self.store = ArtifactStore(artifacts)
        self._jobs: dict[tuple[str, str], _Job] = {}

    @abstractmethod
    async def train(self, job: JobSpec) -> TrainingResult:
        """Train a job on the rows of ``job.train``; it is cancelled when its job is.

        Raises:
            TrainingFailed: when it cannot be trained.
        """

    async def is_healthy(self) -> bool:
        """Ask whether jobs can be run."""
        return True

    def tell(self, job: JobSpec, progress: float, message: str) -> None:
        """Say how far a job is; ``progress`` in per cent."""
        known = self._jobs[job.run_id, job.job_id]
        known.told = {"progress": progress, "message": message}
        known.sequence, known.time = known.sequence + 1, datetime.now(UTC)

    async def initialize(self) -> None:
        """Ask whether jobs can be run.

        Raises:
            TrainingFailed: when they cannot.
        """
        if not await self.is_healthy():
            raise TrainingFailed("unhealthy", f"the backend {self.config.type} is not healthy")

    async def submit(
        self, trajectories: TrajectoryCollection, *, job: JobSpec | None = None
    ) -> TrainingJobRef:
        """Take a job; see :class:`~tunestream.trainers.TrainerAdapter`."""
        spec = await self._specify(trajectories, job)
        key = (spec.run_id, spec.job_id)
        known = self._jobs.get(key)
        if known is None or known.spec.attempt < spec.attempt:
            if known is not None:
                known.task.cancel()
            self._jobs[key] = _Job(spec, asyncio.create_task(self.train(spec), name=f"train-{spec.job_id}"))
            self._forget()
        return TrainingJobRef(run_id=spec.run_id, backend=self.config.type, metadata={"job_id": spec.job_id})

    async def _specify(self, trajectories: TrajectoryCollection, job: JobSpec | None) -> JobSpec:
        if job is not None and job.train is not None:
            return job
        rows = await asyncio.to_thread(lambda: put_rows(self.store, rows_of(trajectories)))
        if job is not None:
            return job.model_copy(update={"train": rows})
        return JobSpec(
            run_id=trajectories.run_id,
            job_id=stable_id("job", trajectories.run_id, rows.sha256),
            config=self.config,
            artifacts=self.store.url,
            train=rows,
        )

    def _forget(self) -> None:
        finished = [key for key, job in self._jobs.items() if job.task.done()]
        for key in finished[:-_REMEMBERED]:
            del self._jobs[key]

    async def status(self, ref: TrainingJobRef) -> TrainingJobStatus:
        """Return a job's latest status; see :class:`~tunestream.trainers.TrainerAdapter`."""
        job = self._find(ref)
        ended = job.task.done()
        return TrainingJobStatus(
            run_id=job.spec.run_id,
            backend=self.config.type,
            job_id=job.spec.job_id,
            sequence=job.sequence + ended,
            time=job.time,
            **(_end_of(job.task) if ended else {"status": TrainingStatusEnum.RUNNING, **job.told}),
        )

    async def wait_until_complete(
        self,
        ref: TrainingJobRef,
        poll_interval: float = 10.0,  # noqa: ARG002 - nothing is polled here
    ) -> TrainingJobStatus:
        """Return the terminal status as soon as there is one."""
        await asyncio.wait({self._find(ref).task})
        return await self.status(ref)

    async def cancel(self, ref: TrainingJobRef) -> None:
        """End a job as CANCELED, unless it is finished."""
        self._find(ref).task.cancel()

    async def close(self) -> None:
        """Cancel what runs."""
        tasks = [job.task for job in self._jobs.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _find(self, ref: TrainingJobRef) -> _Job:
        job = self._jobs.get((ref.run_id, str((ref.metadata or {}).get("job_id"))))
        if job is None:
            raise UnknownJob(ref)
        return job


def _end_of(task: asyncio.Task[TrainingResult]) -> dict[str, Any]:
    """Return how a job ended; what is no :class:`TrainingFailed` is the backend's own fault."""
    if task.cancelled():
        message, reason = "canceled as asked", "canceled"
        return {"status": TrainingStatusEnum.CANCELED, "message": message, "metadata": {"reason": reason}}
    error = task.exception()
    if error is None:
        result = task.result()
        told = {"message": result.message, "metadata": result.model_dump(mode="json")}
        return {"status": TrainingStatusEnum.COMPLETED, "progress": 100.0, **told}
    failure = error if isinstance(error, TrainingFailed) else TrainingFailed("backend_error", repr(error))
    told = {"message": failure.message, "metadata": {"reason": failure.code}}
    return {"status": TrainingStatusEnum.FAILED, **told}
