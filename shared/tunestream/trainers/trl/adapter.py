"""The TrainerAdapter over a warm TRL worker."""

from __future__ import annotations

import asyncio

from tunestream.artifacts import ArtifactStore, CheckpointStore, put_rows
from tunestream.config.run.trainers import Trainer
from tunestream.events.training import DatasetFile, Objective
from tunestream.events.trajectories import EpisodeItem, TrajectoryCollection
from tunestream.trainers.collection_rows import rows_of
from tunestream.trainers.port import JobSpec, TrainingFailed
from tunestream.trainers.trl.config import TRLTrainerConfig
from tunestream.trainers.trl.worker import TRLWorkerHandle
from tunestream.trainers.worker.handle import WorkerDied, WorkerHandle
from tunestream.trainers.worker.settings import WorkerSettings
from tunestream.trainers.worker_adapter import Work, WorkerAdapter

__all__ = ["TRLTrainerAdapter"]


class TRLTrainerAdapter(WorkerAdapter):
    """Trains pairs and episodes with TRL on this machine, one job at a time, in order of submission.

    A job without a :class:`JobSpec` continues from the adapter's last version of its run, and is tried
    again from its last checkpoint when its worker dies, ``max_attempts`` times in all. A job with one is
    tried once, as its attempt: whoever counts attempts decides about the next.

    Args:
        config: the run's trainer section.
        artifacts: URL of the artifact store.
        settings: of the worker; by default from the environment.
        max_attempts: of jobs without a JobSpec.
        worker: shared with another adapter; closing it is then the other's task.
    """

    backend = "trl"

    def __init__(
        self,
        config: TRLTrainerConfig,
        *,
        artifacts: str,
        settings: WorkerSettings | None = None,
        max_attempts: int = 3,
        worker: WorkerHandle | None = None,
    ) -> None:
        super().__init__(
            artifacts=artifacts,
            worker=worker or TRLWorkerHandle(settings),
            owns_worker=worker is None,
            max_attempts=max_attempts,
        )
        self._config = config

    async def initialize(self) -> None:
        """Start the worker, so that the first job need not wait for it.

        Raises:
            TrainingFailed: when TRL is not installed, or the worker does not come up.
        """
        try:
            await self._worker.start()
        except WorkerDied as death:
            raise TrainingFailed("worker_died", str(death)) from death

    async def is_healthy(self) -> bool:
        """Tell whether the worker lives."""
        return self._worker.pid is not None

    async def _prepare(self, trajectories: TrajectoryCollection, job: JobSpec | None) -> Work:
        config: Trainer = job.config if job else self._config
        if job is not None and job.train is not None:
            return Work(config, job.train)
        config = _with_objective(config, trajectories)
        return Work(config, await asyncio.to_thread(self._store_rows, trajectories))

    def _store_rows(self, trajectories: TrajectoryCollection) -> DatasetFile:
        return put_rows(ArtifactStore(self._artifacts), rows_of(trajectories))

    async def _forget(self, job_id: str) -> None:
        checkpoints = CheckpointStore(ArtifactStore(self._artifacts), job_id)
        await asyncio.to_thread(checkpoints.delete)


def _with_objective(config: Trainer, trajectories: TrajectoryCollection) -> Trainer:
    """Settle what is optimised: what the run says, or what its trajectories are made for.

    Raises:
        ValueError: when the trajectories are of another kind.
    """
    members = [one for group in trajectories.trajectories for one in group]
    kinds = {isinstance(item, EpisodeItem) for one in members for item in one.episode}
    if len(kinds) > 1:
        raise ValueError("the collection holds both episodes and preference pairs; submit them apart")
    default = Objective.GRPO if kinds == {True} else Objective.DPO
    objective = config.objective or default
    takes = {Objective.GRPO: {True}, Objective.SFT: {True, False}}.get(objective, {False})
    if not kinds <= takes:
        given, remedy = (
            ("episodes", "grpo or sft") if True in kinds else ("preference pairs", "dpo, kto or sft")
        )
        raise ValueError(
            f"objective {objective} does not learn from {given}: set trainer.objective to {remedy}"
        )
    return config.model_copy(update={"objective": objective})
