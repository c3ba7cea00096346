"""Runs the stages of an experiment's arms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from tunestream.config.experiment.experiment import Config
from tunestream.config.experiment.loading import LoadedExperiment
from tunestream.config.settings import KafkaSettings
from tunestream.experiments.data_sources import DataSources
from tunestream.experiments.execution import execute
from tunestream.experiments.manifests import ArmManifest, ExperimentManifest, StageManifest, StageState
from tunestream.experiments.plan import Contents, inputs_of, key_of, stages_of
from tunestream.experiments.recognising import recognised_or_open
from tunestream.experiments.stage_runner import Processes, StageRunner, Work
from tunestream.experiments.stages import PARENTS, Choice, Stage, StageFailed
from tunestream.experiments.store import ExperimentStore
from tunestream.experiments.trainer_service import TrainerService

__all__ = ["Engine", "StageUpdate", "new_experiment"]

log = structlog.get_logger(__name__)


class _Stopped(Exception):
    """Ends a stage that runs in a thread, when nobody waits for it any more."""


@dataclass(frozen=True, slots=True)
class StageUpdate:
    """How a stage of an arm goes on: ``done`` of ``total``, 0 when not known; ``notes`` of a complete one."""

    arm: str
    stage: Stage
    state: StageState
    done: int = 0
    total: int = 0
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Arm:
    """An arm that is run, and its manifest."""

    experiment: ExperimentManifest
    manifest: ArmManifest
    config: Config
    outputs: dict[Stage, StageManifest] = field(default_factory=dict)


def new_experiment(loaded: LoadedExperiment) -> ExperimentManifest:
    """Describe an experiment of which nothing has been run."""
    return ExperimentManifest(
        id=loaded.id,
        name=loaded.name,
        created=datetime.now(UTC).isoformat(),
        source=Path(loaded.source).name,
        text=loaded.text,
        metric=loaded.ablation.metric,
        minimises=loaded.ablation.minimises,
        arms=[
            ArmManifest(
                name=f"arm-{number:03d}",
                settings=arm.settings,
                config=arm.config.document(),
                stages={stage: StageState() for stage in stages_of(arm.config)},
            )
            for number, arm in enumerate(loaded.arms)
        ],
    )


class Engine:
    """Runs an experiment; what is complete is used again, what was interrupted goes on.

    Args:
        store: where stages are kept.
        choice: which stages to run; by default all.
        max_parallel: arms at a time, each with processes of its own.
        on_update: called at every change.
        kafka: the broker, for data from a stream.
        service: trains there instead of here.
        processes: used by all arms, and not ended; by default they are started as they are needed.
    """

    def __init__(
        self,
        store: ExperimentStore,
        *,
        choice: Choice | None = None,
        max_parallel: int = 1,
        on_update: Callable[[StageUpdate], None] = lambda _: None,
        kafka: KafkaSettings | None = None,
        service: TrainerService | None = None,
        processes: Processes | None = None,
    ) -> None:
        self._store = store
        self._choice = choice or Choice()
        self._on_update = on_update
        self._slots = asyncio.Semaphore(max_parallel)
        self._owned = [] if processes else [Processes() for _ in range(max_parallel)]
        self._stages = StageRunner(store, [processes] if processes else self._owned, service)
        self._contents = Contents()
        self._locks: dict[str, asyncio.Lock] = {}
        self._ran: set[str] = set()
        self._failed: dict[str, StageFailed] = {}
        self._data = DataSources(kafka)
        self._stopping = False

    async def run(self, loaded: LoadedExperiment) -> ExperimentManifest:
        """Run every arm and return how far each is; a failing one does not stop the others."""
        loaded = await asyncio.to_thread(recognised_or_open, loaded)
        experiment = new_experiment(loaded)
        earlier = self._store.earlier(experiment.id)
        if earlier is not None:
            experiment = experiment.model_copy(update={"created": earlier.created})
        self._store.save(experiment)
        for one in loaded.arms:  # what all arms wait for, such as a broker that is away, ends them here
            with suppress(StageFailed):
                await self._data.fingerprint(one.config)
        try:
            pairs = zip(experiment.arms, loaded.arms, strict=True)
            arms = (_Arm(experiment, manifest, one.config) for manifest, one in pairs)
            await asyncio.gather(*map(self._run, arms))
        finally:
            self._stopping = True
            await asyncio.gather(*(each.close() for each in self._owned))
            _break_off(experiment)
            self._store.save(experiment)
        return experiment

    async def preview(self, loaded: LoadedExperiment) -> ExperimentManifest:
        """Return what :meth:`run` would find complete; stages behind one that is not have no key yet."""
        loaded = await asyncio.to_thread(recognised_or_open, loaded)
        experiment = new_experiment(loaded)
        for manifest, arm in zip(experiment.arms, loaded.arms, strict=True):
            outputs: dict[Stage, StageManifest] = {}
            for stage in manifest.stages:
                if not all(parent in outputs for parent in _parents(stage, manifest)):
                    continue
                key = key_of(await self._inputs(stage, arm.config, outputs))
                if self._store.has(stage, key):
                    outputs[stage] = self._store.stage(stage, key)
                    manifest.stages[stage] = StageState(status="complete", key=key, reused=True)
                else:
                    manifest.stages[stage] = StageState(key=key)
        return experiment

    async def _run(self, arm: _Arm) -> None:
        async with self._slots:
            for stage in filter(self._choice.reaches, arm.manifest.stages):
                try:
                    arm.outputs[stage] = await self._stage(arm, stage)
                except StageFailed as failure:
                    self._note(arm, stage, status="failed", error=failure.message)
                    self._skip(arm, stage)
                    return

    async def _stage(self, arm: _Arm, stage: Stage) -> StageManifest:
        inputs = await self._inputs(stage, arm.config, arm.outputs)
        key = key_of(inputs)
        async with self._locks.setdefault(key, asyncio.Lock()):
            if key in self._failed:
                raise self._failed[key]
            if self._is_usable(stage, key):
                made = self._store.stage(stage, key)
                reused = key not in self._ran
                self._note(arm, stage, made.notes, status="complete", key=key, reused=reused)
                return made
            if not self._choice.takes(stage):
                message = f"{stage} is not complete and was not to be run: leave out --only and --from"
                raise StageFailed("incomplete_parent", message)
            self._note(arm, stage, status="running", key=key)
            made = await self._guarded(self._work(arm, stage, key, inputs))
            self._ran.add(key)
            self._note(arm, stage, made.notes, status="complete", key=key)
            return made

    def _work(self, arm: _Arm, stage: Stage, key: str, inputs: dict[str, Any]) -> Work:
        return Work(
            stage=stage,
            config=arm.config,
            key=key,
            inputs=inputs,
            parents={each: self._store.stage_dir(each, made.key) for each, made in arm.outputs.items()},
            folder=self._store.work_dir(stage, key),
            progress=lambda done, total: self._progress(arm.manifest, stage, done, total),
            groups=self._data.groups(arm.config),
        )

    def _progress(self, manifest: ArmManifest, stage: Stage, done: int, total: int) -> None:
        if self._stopping:
            raise _Stopped
        self._on_update(StageUpdate(manifest.name, stage, manifest.stages[stage], done, total))

    async def _guarded(self, work: Work) -> StageManifest:
        """Run a stage; every error is its failure, for every arm that shares it."""
        try:
            return await execute(work, self._stages, self._store)
        except StageFailed as failure:
            self._failed[work.key] = failure
            raise
        except Exception as error:
            log.exception("experiment.stage_broken", stage=str(work.stage), key=work.key)
            broken = StageFailed("internal", f"{type(error).__name__}: {error}")
            self._failed[work.key] = broken
            raise broken from error

    def _is_usable(self, stage: Stage, key: str) -> bool:
        if not self._store.has(stage, key):
            return False
        return key in self._ran or stage not in self._choice.force or not self._choice.takes(stage)

    async def _inputs(
        self, stage: Stage, config: Config, outputs: Mapping[Stage, StageManifest]
    ) -> dict[str, Any]:
        source = await self._data.fingerprint(config) if stage is Stage.INGEST else {}
        return await asyncio.to_thread(inputs_of, stage, config, outputs, self._contents, source)

    def _note(self, arm: _Arm, stage: Stage, notes: Sequence[str] = (), **changes: Any) -> None:
        state = arm.manifest.stages[stage].model_copy(update=changes)
        arm.manifest.stages[stage] = state
        self._store.save(arm.experiment)
        self._on_update(StageUpdate(arm.manifest.name, stage, state, notes=notes))

    def _skip(self, arm: _Arm, failed: Stage) -> None:
        for stage, state in arm.manifest.stages.items():
            if state.status == "waiting" and self._choice.reaches(stage):
                self._note(arm, stage, status="skipped", error=f"{failed} failed")


def _break_off(experiment: ExperimentManifest) -> None:
    """Let no stage look as if it still ran."""
    for arm in experiment.arms:
        for stage, state in arm.stages.items():
            if state.status == "running":
                arm.stages[stage] = state.model_copy(update={"status": "waiting"})


def _parents(stage: Stage, manifest: ArmManifest) -> list[Stage]:
    return [parent for parent in PARENTS[stage] if parent in manifest.stages]
