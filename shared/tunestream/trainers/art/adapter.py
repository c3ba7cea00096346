"""The TrainerAdapter over OpenPipe ART."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from tunestream.artifacts import ArtifactStore, put_rows
from tunestream.events.dataset import DatasetRow, EpisodeRow
from tunestream.events.training import DatasetFile
from tunestream.events.trajectories import EpisodeItem, Trajectory, TrajectoryCollection
from tunestream.trainers.art.config import ARTTrainerAdapterConfig
from tunestream.trainers.art.episodes import examine, ids_as_written, no_ids
from tunestream.trainers.art.probe import check_service
from tunestream.trainers.art.settings import ARTSettings
from tunestream.trainers.art.worker import ARTWorkerHandle
from tunestream.trainers.collection_rows import rows_of
from tunestream.trainers.port import JobSpec, TrainingFailed
from tunestream.trainers.worker.handle import WorkerDied
from tunestream.trainers.worker_adapter import Work, WorkerAdapter

__all__ = ["ARTTrainerAdapter"]


class ARTTrainerAdapter(WorkerAdapter):
    """Trains episodes with GRPO by OpenPipe ART, one job at a time, in order of submission.

    A training service trains from the model's latest checkpoint: a JobSpec's parent is not used, and the
    status says so where it is another one. On this machine a job starts from its parent.

    ART finds no job by a name of ours. Before a job is sent, the model's step is written to the artifact
    store, and then the service's own name of the job; a later attempt goes on watching it, or takes a
    higher step for the job's. Only where the answer to a job's creation is lost and no step follows within
    ``lost_timeout``, it is sent again, and the status says so.

    Args:
        config: the run's trainer section.
        artifacts: URL of the artifact store.
        settings: deadlines and attempts; by default from the environment.
        max_attempts: of jobs without a JobSpec, when the worker dies.
        worker: shared with another adapter; closing it is then the other's task.
    """

    backend = "openpipe-art"

    def __init__(
        self,
        config: ARTTrainerAdapterConfig,
        *,
        artifacts: str,
        settings: ARTSettings | None = None,
        max_attempts: int = 3,
        worker: ARTWorkerHandle | None = None,
    ) -> None:
        self._settings = settings or ARTSettings()
        super().__init__(
            artifacts=artifacts,
            worker=worker or ARTWorkerHandle(self._settings),
            owns_worker=worker is None,
            max_attempts=max_attempts,
        )
        self._config = config
        if config.backend.kind == "serverless":
            self.canceled = "canceled as asked; the service cannot end a job, and may train it to its end"

    async def initialize(self) -> None:
        """Ask the service, and start the worker, so that the first job need not wait for it.

        Raises:
            TrainingFailed: when the service does not answer or refuses, ART is not installed, or the worker
                does not come up.
        """
        if self._config.backend.kind == "serverless":
            await check_service(self._config.backend, self._settings)
        try:
            await self._worker.start()
        except WorkerDied as death:
            raise TrainingFailed("worker_died", str(death)) from death

    async def is_healthy(self) -> bool:
        """Ask the service; on this machine, whether the worker lives or starts."""
        try:
            if self._config.backend.kind == "serverless":
                await check_service(self._config.backend, self._settings)
            else:
                await self._worker.start()
        except (TrainingFailed, WorkerDied):
            return False
        return True

    async def _prepare(self, trajectories: TrajectoryCollection, job: JobSpec | None) -> Work:
        config = job.config if job else self._config
        if not isinstance(config, ARTTrainerAdapterConfig):
            message = f"the ART adapter cannot train a job of trainer {config.type}"
            raise ValueError(message)  # noqa: TRY004 - the value of a well-typed field is at fault
        if job is not None and job.train is not None:
            return Work(config, job.train)
        rows = _rows_of(trajectories)
        found = examine(rows, ids_as_written if config.backend.kind == "serverless" else no_ids)
        if not found.groups:
            raise ValueError(
                f"nothing in the collection of run {trajectories.run_id!r} can be trained on: "
                f"{found.summary}. {found.remedies}"
            )
        return Work(config, await asyncio.to_thread(self._store, rows))

    def _store(self, rows: Iterable[DatasetRow]) -> DatasetFile:
        return put_rows(ArtifactStore(self._artifacts), rows)

    async def _forget(self, job_id: str) -> None:
        """Forget nothing: a job that comes again is recognised by its trace."""


def _rows_of(collection: TrajectoryCollection) -> list[DatasetRow]:
    """Return a row for each trajectory, also for one that is no good.

    Raises:
        ValueError: when there is none.
    """
    rows = [
        _row(collection.run_id, number, one)
        for number, group in enumerate(collection.trajectories)
        for one in group
    ]
    if not rows:
        raise ValueError(f"the collection of run {collection.run_id!r} has no trajectories to train on")
    return rows


def _row(run_id: str, group: int, trajectory: Trajectory) -> DatasetRow:
    if trajectory.episode and not isinstance(trajectory.episode[0], EpisodeItem):
        (row,) = rows_of(TrajectoryCollection(trajectories=[[trajectory]], run_id=run_id))
        return row
    items = [item for item in trajectory.episode if isinstance(item, EpisodeItem)]
    example = str((trajectory.metadata or {}).get("example_id", group))
    return EpisodeRow(group_id=str(group), example_id=example, items=items, reward=trajectory.reward)
