"""OpenPipe ART as a backend, in its service or on this machine, and the reference's life cycle over it."""

from __future__ import annotations

import asyncio
from typing import Final

from typing_extensions import override

from tunestream.config.run.trainers import TrainerSection
from tunestream.events.dataset import DatasetRow, EpisodeRow
from tunestream.events.trajectories import EpisodeItem, Trajectory, TrajectoryCollection
from tunestream.trainers.art.config import ARTTrainerAdapterConfig
from tunestream.trainers.art.episodes import examine, ids_as_written, no_ids
from tunestream.trainers.art.probe import check_service
from tunestream.trainers.art.settings import ARTSettings
from tunestream.trainers.art.worker import ARTWorkerHandle
from tunestream.trainers.backend import TrainerBackend
from tunestream.trainers.collection_rows import Rows, rows_of
from tunestream.trainers.harness import TrainerAdapter
from tunestream.trainers.port import (
    JobSpec,
    LogLine,
    Report,
    Start,
    Stop,
    TrainingResult,
    stop_of,
)
from tunestream.trainers.retry import Retry
from tunestream.trainers.worker.backend import WorkerBackend

__all__ = ["BACKEND", "ARTBackend", "ARTTrainerAdapter"]

_TRAINS_ON: Final = "canceled as asked; the service cannot end a job, and may train it to its end"


class ARTBackend(WorkerBackend):
    """Trains episodes with GRPO by OpenPipe ART, in a worker process that loads it.

    A training service trains from the model's latest checkpoint: a JobSpec's parent is not used, and the
    result notes it when that is another one. On this machine a job starts from its parent.

    ART cannot find a job by the name that tunestream gives it. Before a job is sent, the model's step is
    written to the artifact store, and then the service's own name of the job; a later attempt goes on
    watching it, or takes a higher step for the job's. Only where the answer to a job's creation is lost and
    no step follows within ``lost_timeout``, it is sent again, and the result notes it. A stopped job ends
    here; the service cannot end its own.

    Args:
        config: which of ART's backends trains, and where it is; a job brings the rest of its section.
        settings: deadlines and attempts; by default from the environment.
        worker: shared with another backend; closing it is then the other's task.
    """

    def __init__(
        self,
        config: ARTTrainerAdapterConfig,
        settings: ARTSettings | None = None,
        *,
        worker: ARTWorkerHandle | None = None,
    ) -> None:
        self._config = config
        self._settings = settings or ARTSettings()
        super().__init__(worker or ARTWorkerHandle(self._settings), owns_worker=worker is None)

    @override
    async def check(self) -> None:
        """Ask the service, and start the worker, so that the first job does not wait for it.

        Raises:
            TrainingFailed: when the service does not answer or refuses, ART is not installed, or the worker
                does not come up.
        """
        if self._config.backend.kind == "serverless":
            await check_service(self._config.backend, self._settings)
        await super().check()

    @override
    async def train(self, spec: JobSpec, report: Report) -> TrainingResult:
        """Train a job, or go on watching it; see :meth:`tunestream.trainers.Backend.train`."""
        try:
            return await super().train(spec, report)
        except asyncio.CancelledError as error:
            if stop_of(error) is Stop.CANCELED and self._config.backend.kind == "serverless":
                report(LogLine(line=_TRAINS_ON))
            raise


class ARTTrainerAdapter(TrainerAdapter):
    """The reference's life cycle over OpenPipe ART.

    Args:
        adapter_config: the run's trainer section.
        artifacts: URL of the artifact store; by default from the environment.
        backend: trains; by default one of its own.
        retry: of jobs without a JobSpec.
    """

    backend: ARTBackend
    adapter_config: ARTTrainerAdapterConfig

    def __init__(
        self,
        adapter_config: ARTTrainerAdapterConfig,
        *,
        artifacts: str | None = None,
        backend: ARTBackend | None = None,
        retry: Retry | None = None,
    ) -> None:
        super().__init__(adapter_config, artifacts=artifacts, backend=backend, retry=retry)
        if adapter_config.backend.kind == "serverless":
            self.canceled = _TRAINS_ON

    @override
    def rows(self, trajectories: TrajectoryCollection, config: TrainerSection) -> Rows:
        """Return a row for each trajectory, also for an unusable one: the result counts it.

        Raises:
            ValueError: when there is none, or none that can be trained on.
        """
        assert isinstance(config, ARTTrainerAdapterConfig)
        rows = _rows_of(trajectories)
        found = examine(rows, ids_as_written if config.backend.kind == "serverless" else no_ids)
        if not found.groups:
            raise ValueError(
                f"nothing in the collection of run {trajectories.run_id!r} can be trained on: "
                f"{found.summary}. {found.remedies}"
            )
        return Rows(config, rows)


def _rows_of(collection: TrajectoryCollection) -> list[DatasetRow]:
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


def _open(config: ARTTrainerAdapterConfig, artifacts: str) -> ARTBackend:
    del artifacts  # each job brings its own
    return ARTBackend(config)


async def _check(config: ARTTrainerAdapterConfig) -> None:
    """Ask the training service; look for what the worker needs where it trains on this machine."""
    settings = ARTSettings()
    if config.backend.kind == "serverless":
        await check_service(config.backend, settings)
    else:
        ARTWorkerHandle(settings).check_installed()


BACKEND: Final = TrainerBackend(
    config=ARTTrainerAdapterConfig,
    open=_open,
    local=lambda config: config.backend.kind == "local",
    starts_from=lambda config: Start.HEAD if config.backend.kind == "local" else Start.LATEST,
    check=_check,
    reference="openpipe-art",
)
