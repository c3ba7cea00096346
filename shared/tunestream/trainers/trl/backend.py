"""TRL as a backend, in a worker process that loads torch, and the reference's life cycle over it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Final

from typing_extensions import override

from tunestream.artifacts import ArtifactStore, CheckpointStore
from tunestream.config.run.trainers import TrainerSection
from tunestream.events.training import Objective
from tunestream.events.trajectories import EpisodeItem, TrajectoryCollection
from tunestream.trainers.backend import TrainerBackend
from tunestream.trainers.collection_rows import Rows, rows_of
from tunestream.trainers.harness import TrainerAdapter
from tunestream.trainers.port import JobSpec, TrainingFailed
from tunestream.trainers.retry import Retry
from tunestream.trainers.trl.config import TRLTrainerConfig
from tunestream.trainers.trl.worker import TRLWorkerHandle
from tunestream.trainers.worker.backend import WorkerBackend
from tunestream.trainers.worker.handle import WorkerHandle
from tunestream.trainers.worker.settings import WorkerSettings

__all__ = ["BACKEND", "TRLBackend", "TRLTrainerAdapter"]

_MODEL: Final = "model.hf_model_ckpt"
# `name` or `owner/name`, as the Hugging Face hub has them.
_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


class TRLBackend(WorkerBackend):
    """Trains pairs and episodes with TRL in a worker process of this machine.

    Args:
        settings: of the worker; by default from the environment.
        worker: shared with another backend; closing it is then the other's task.
    """

    def __init__(self, settings: WorkerSettings | None = None, *, worker: WorkerHandle | None = None) -> None:
        super().__init__(worker or TRLWorkerHandle(settings), owns_worker=worker is None)


class TRLTrainerAdapter(TrainerAdapter):
    """The reference's life cycle over the TRL backend.

    The checkpoints of a job without a :class:`JobSpec` are removed when it is completed.

    Args:
        adapter_config: the run's trainer section.
        artifacts: URL of the artifact store; by default from the environment.
        backend: trains; by default one of its own.
        retry: of jobs without a JobSpec.
    """

    def __init__(
        self,
        adapter_config: TRLTrainerConfig,
        *,
        artifacts: str | None = None,
        backend: TRLBackend | None = None,
        retry: Retry | None = None,
    ) -> None:
        super().__init__(adapter_config, artifacts=artifacts, backend=backend, retry=retry)

    @override
    def rows(self, trajectories: TrajectoryCollection, config: TrainerSection) -> Rows:
        return Rows(_with_objective(config, trajectories), rows_of(trajectories))

    @override
    async def completed(self, spec: JobSpec) -> None:
        checkpoints = CheckpointStore(ArtifactStore(spec.artifacts), spec.job_id)
        await asyncio.to_thread(checkpoints.delete)


def _with_objective(config: TrainerSection, trajectories: TrajectoryCollection) -> TrainerSection:
    """Settle what is optimised: the run's objective, or what its trajectories are made for.

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


def _open(config: TRLTrainerConfig, artifacts: str) -> TRLBackend:
    del config, artifacts  # each job brings its own
    return TRLBackend()


async def _check(config: TRLTrainerConfig) -> None:
    """Look for what the worker needs, and for the base model."""
    TRLWorkerHandle().check_installed()
    _check_model(config.model.hf_model_ckpt)


def _check_model(name: str) -> None:
    folder = Path(name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise TrainingFailed("model_missing", f"{name} has no config.json", key=_MODEL)
    if not folder.is_dir() and not _HUB_NAME.fullmatch(name):
        raise TrainingFailed(
            "model_missing",
            f"{name} is no folder of this machine and no name on the Hugging Face hub",
            key=_MODEL,
        )


BACKEND: Final = TrainerBackend(
    config=TRLTrainerConfig,
    open=_open,
    local=True,
    shares=lambda _: "the machine's one worker",
    check=_check,
)
