"""How each stage is run, once it is known that it must be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunestream.artifacts import ArtifactStore
from tunestream.config.experiment.experiment import Config
from tunestream.events.groups import PreferenceGroup
from tunestream.events.trajectories import TrajectoryGroup
from tunestream.experiments.finetune import FinetuneRequest, forget_checkpoints, keep, train_here
from tunestream.experiments.inference import infer
from tunestream.experiments.ingest import ingest
from tunestream.experiments.models import ModelWorker
from tunestream.experiments.qa import evaluate
from tunestream.experiments.requests import InferenceRequest, ModelReference, QaRequest, StageReport
from tunestream.experiments.stages import OnProgress, Stage
from tunestream.experiments.store import ExperimentStore
from tunestream.experiments.trainer_service import TrainerService, train_by_service
from tunestream.trainers import Backend
from tunestream.trainers.trl.backend import TRLBackend

__all__ = ["Processes", "StageRunner", "Work"]


@dataclass(frozen=True, slots=True)
class Processes:
    """What loads torch for one arm at a time: a process that trains, and one that generates and embeds."""

    training: Backend = field(default_factory=TRLBackend)
    models: ModelWorker = field(default_factory=ModelWorker)

    async def close(self) -> None:
        """End both."""
        await self.training.close()
        await asyncio.to_thread(self.models.close)


@dataclass(frozen=True, slots=True)
class Work:
    """One stage of one arm, about to run.

    ``groups`` are a stream's trajectories; ``folder`` exists, and may hold what an interrupted call left.
    """

    stage: Stage
    config: Config
    key: str
    inputs: dict[str, Any]
    parents: Mapping[Stage, Path]
    folder: Path
    progress: OnProgress
    groups: list[TrajectoryGroup | PreferenceGroup] | None = None


class StageRunner:
    """Runs stages in their work folders.

    Args:
        store: where the parents' outputs are.
        processes: as many stages with a model run at a time.
        service: trains instead of these processes.
    """

    def __init__(
        self, store: ExperimentStore, processes: Iterable[Processes], service: TrainerService | None
    ) -> None:
        self._store = store
        self._artifacts = ArtifactStore(str(store.artifacts))
        self._service = service
        self._free: asyncio.Queue[Processes] = asyncio.Queue()
        for each in processes:
            self._free.put_nowait(each)

    async def run(self, work: Work) -> StageReport:
        """Run a stage.

        Raises:
            StageFailed: when it cannot be run.
        """
        match work.stage:
            case Stage.INGEST:
                return await self._ingest(work)
            case Stage.FINETUNE:
                return await self._finetune(work)
            case Stage.INFERENCE | Stage.BASELINE:
                return await self._infer(work)
            case Stage.QA:
                return await self._evaluate(work)

    async def _ingest(self, work: Work) -> StageReport:
        report = await asyncio.to_thread(
            ingest,
            work.config.data,
            work.folder,
            groups=work.groups,
            progress=work.progress,
        )
        return StageReport(details=report.model_dump(mode="json"), notes=report.notes())

    async def _finetune(self, work: Work) -> StageReport:
        ingested = work.parents[Stage.INGEST]
        request = FinetuneRequest(
            key=work.key,
            trainer=work.config.trainer,
            train=ingested / "train.jsonl",
            validation=ingested / "validation.jsonl",
            output=work.folder,
        )
        if self._service is not None:
            store = ArtifactStore(self._service.artifacts)
            trained = await train_by_service(request, self._service, work.progress)
        else:
            store = self._artifacts
            async with self._process() as processes:
                trained = await train_here(request, store, processes.training, work.progress)
        await asyncio.to_thread(keep, trained, store, work.folder)
        await asyncio.to_thread(forget_checkpoints, work.key, self._artifacts)
        weights = {"kind": trained.kind, "weights_sha256": trained.artifact.sha256}
        notes = [trained.message] if trained.message else []
        return StageReport(metrics=trained.metrics, details=weights | trained.details, notes=notes)

    async def _infer(self, work: Work) -> StageReport:
        request = InferenceRequest(
            test=work.parents[Stage.INGEST] / "test.jsonl",
            model=self._model(work, tuned=work.stage is Stage.INFERENCE),
            config=work.config.inference,
            seed=work.config.seed,
            output=work.folder,
        )
        async with self._process() as processes:
            return await asyncio.to_thread(infer, request, progress=work.progress, worker=processes.models)

    async def _evaluate(self, work: Work) -> StageReport:
        baseline = work.parents.get(Stage.BASELINE)
        request = QaRequest(
            tuned=work.parents[Stage.INFERENCE] / "results.jsonl",
            baseline=baseline / "results.jsonl" if baseline else None,
            config=work.config.qa,
            seed=work.config.seed,
            output=work.folder,
            generator=self._model(work, tuned=True),
            inference=work.config.inference,
        )
        async with self._process() as processes:
            return await asyncio.to_thread(evaluate, request, progress=work.progress, worker=processes.models)

    def _model(self, work: Work, *, tuned: bool) -> ModelReference:
        base = work.config.model
        if not tuned:
            return ModelReference(base=base, name=work.config.inference.endpoint_model or base.hf_model_ckpt)
        folder = work.parents[Stage.FINETUNE]
        manifest = self._store.stage(Stage.FINETUNE, folder.name)
        return ModelReference(
            base=base,
            weights=folder / "weights",
            kind=manifest.details["kind"],
            name=f"experiment-{folder.name[:16]}",
        )

    @asynccontextmanager
    async def _process(self) -> AsyncIterator[Processes]:
        processes = await self._free.get()
        try:
            yield processes
        finally:
            self._free.put_nowait(processes)
