"""One attempt of a job, whichever backend trains it."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import Any

import structlog
from pydantic import ValidationError

from tunestream.artifacts import ArtifactStore, ArtifactUnreachable, CheckpointStore
from tunestream.config.run.run import RunConfig
from tunestream.domain.jobs.lifecycle import TERMINAL
from tunestream.domain.models.evaluation import judge
from tunestream.events.models import Evaluation
from tunestream.events.training import JobRecord, TrainingJobRef, TrainingJobStatus, TrainingStatusEnum
from tunestream.events.trajectories import TrajectoryCollection
from tunestream.trainers import JobSpec, TrainerAdapter, TrainerBackend, TrainingFailed, TrainingResult
from tunestream_services.trainer.adapters import Adapters, asking
from tunestream_services.trainer.evaluating import ask_evaluators
from tunestream_services.trainer.owners import Lost, Owners
from tunestream_services.trainer.settings import TrainerSettings

__all__ = ["Attempt"]

log = structlog.get_logger(__name__)


class Attempt:
    """An attempt that was committed: trains, and commits how it ended.

    Args:
        owners: who commits.
        partition: the job's.
        job: as the attempt began.
        config: of the job's run.
        backend: of the run's trainer.
        adapters: of this replica.
        store: datasets, checkpoints and weights.
        settings: waits.
    """

    def __init__(
        self,
        owners: Owners,
        partition: int,
        job: JobRecord,
        config: RunConfig,
        *,
        backend: TrainerBackend[Any],
        adapters: Adapters,
        store: ArtifactStore,
        settings: TrainerSettings,
    ) -> None:
        self._owners = owners
        self._partition = partition
        self._job = job
        self._config = config
        self._poll_seconds = backend.poll_seconds
        self._local = backend.is_local(config.trainer)
        self._adapters = adapters
        self._store = store
        self._settings = settings
        self._told: tuple[object, ...] = (job.progress or 0.0, job.message, {})

    async def run(self) -> None:
        """Train the job and commit its end, unless it is a failure.

        Raises:
            TrainingFailed: when it cannot be trained, or this attempt could not.
            Lost: when the attempt may not commit any more; what ran of it is stopped.
        """
        log.info("job.started", attempt=self._job.attempt, rows=self._job.batch.train.rows)
        await self._take_over_checkpoint()
        spec = self._specify()
        async with self._adapters.use(self._config.trainer) as adapter:
            status = await self._train(adapter, spec)
        await self._conclude(spec, status)

    async def _take_over_checkpoint(self) -> None:
        left_off = self._owners.get(self._partition).ledger.left_off(self._job)
        if left_off is not None:
            ours, theirs = (CheckpointStore(self._store, name) for name in (self._job.job_id, left_off))
            step = await asyncio.to_thread(ours.take_over, theirs)
            log.info("job.resumed", from_job=left_off, step=step)

    def _specify(self) -> JobSpec:
        ledger, job = self._owners.get(self._partition).ledger, self._job
        parent = ledger.versions(job.run_id).get(job.parent_version or "")
        return JobSpec(
            run_id=job.run_id,
            job_id=job.job_id,
            attempt=job.attempt,
            config=self._config.trainer,
            artifacts=self._store.url,
            train=job.batch.train,
            validation=job.batch.validation,
            parent=None if parent is None else parent.artifact,
            judging=ledger.judging(job),
            judging_rows=self._config.evaluation.max_items,
        )

    # -- training

    async def _train(self, adapter: TrainerAdapter, spec: JobSpec) -> TrainingJobStatus:
        with asking():
            await adapter.initialize()
            if not await adapter.is_healthy():
                raise TrainingFailed("unhealthy", f"the backend {spec.config.type} is not healthy")
            empty = TrajectoryCollection(trajectories=[], run_id=spec.run_id)
            ref = await adapter.submit(empty, job=spec)
        try:
            return await self._follow(adapter, ref)
        except Lost:
            await self._let_go(adapter, ref)
            raise

    async def _follow(self, adapter: TrainerAdapter, ref: TrainingJobRef) -> TrainingJobStatus:
        """Tell how far the job is until it ends."""
        while True:
            with asking():
                status = await adapter.status(ref)
            if status.status in TERMINAL:
                return status
            if not self._may_commit():
                raise Lost("the job was ended, or another attempt has begun")
            await self._tell(status)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._owners.changed(), self._poll_seconds)

    def _may_commit(self) -> bool:
        """Say whether the attempt still counts; while its partition is away nobody knows, and it goes on."""
        owner = self._owners.find(self._partition)
        return owner is None or owner.ledger.holds(self._job.job_id, self._job.attempt)

    async def _tell(self, status: TrainingJobStatus) -> None:
        metrics = {name: value for name, value in (status.metadata or {}).items() if value is not None}
        news = (status.progress or 0.0, status.message, metrics)
        if status.message is None or news == self._told:
            return
        self._told = news
        await self._owners.step(
            self._partition,
            lambda owner, effects: owner.ledger.report(
                self._job.job_id,
                self._job.attempt,
                progress=status.progress or 0.0,
                message=status.message or "",
                metrics=metrics,
                now=_now(),
                effects=effects,
            ),
        )

    async def _let_go(self, adapter: TrainerAdapter, ref: TrainingJobRef) -> None:
        """Stop what may not commit any more.

        A remote job goes on when it was not ended but taken over: its new owner watches it.
        """
        owner = self._owners.find(self._partition)
        job = None if owner is None else owner.ledger.job(self._job.job_id)
        if not (self._local or (job is not None and job.status in TERMINAL)):
            return
        log.info("job.stopping", attempt=self._job.attempt)
        grace = self._settings.cancel_grace_seconds
        try:
            async with asyncio.timeout(grace):
                await self._stop(adapter, ref)
        except TimeoutError:
            log.warning("job.not_stopped", attempt=self._job.attempt, after_seconds=grace)
            if self._local:
                await self._adapters.discard(adapter)
        except TrainingFailed as failure:
            log.warning("job.not_stopped", attempt=self._job.attempt, reason=failure.message)

    async def _stop(self, adapter: TrainerAdapter, ref: TrainingJobRef) -> None:
        with asking():
            await adapter.cancel(ref)
            await adapter.wait_until_complete(ref, self._poll_seconds)

    # -- the end

    async def _conclude(self, spec: JobSpec, status: TrainingJobStatus) -> None:
        if status.status is TrainingStatusEnum.COMPLETED:
            result = _result(status)
            await self._register_version(result, await self._evaluate(spec, result))
            return
        told = status.metadata or {}
        reason, message = str(told.get("reason", "training_failed")), status.message or "no reason was told"
        if status.status is TrainingStatusEnum.FAILED:
            raise TrainingFailed(reason, message)
        await self._canceled(reason, message)

    async def _canceled(self, reason: str, message: str) -> None:
        """End a job that was canceled behind our back; ``reason`` as the backend tells it."""
        if not self._may_commit():
            raise Lost("the job was ended, or another attempt has begun; the backend stopped")
        log.warning("job.canceled_by_backend", reason=message)
        await self._owners.step(
            self._partition,
            lambda owner, effects: owner.ledger.cancel(
                self._job.job_id,
                code=reason,
                message=f"canceled by its backend: {message}",
                now=_now(),
                effects=effects,
            ),
        )

    async def _evaluate(self, spec: JobSpec, result: TrainingResult) -> Evaluation:
        """Judge the version, also by the run's own evaluators.

        Raises:
            Lost: when the attempt may not commit any more; nobody is asked then.
        """
        config = self._config.evaluation
        asked = asyncio.create_task(
            ask_evaluators(config, self._job, spec, result.artifact, self._store, self._tell_evaluator),
            name=f"evaluate-{self._job.job_id}",
        )
        try:
            while not asked.done():
                if not self._may_commit():
                    raise Lost("the job was ended, or another attempt has begun, while it was evaluated")
                changed = asyncio.create_task(self._owners.changed(), name="owners-changed")
                await asyncio.wait({asked, changed}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
        finally:
            asked.cancel()
            await asyncio.wait({asked})
        try:
            return judge(result.judged, config, asked.result())
        except ArtifactUnreachable as error:
            raise TrainingFailed("store_unreachable", f"the held-out rows cannot be read: {error}") from error

    async def _tell_evaluator(self, name: str) -> None:
        await self._owners.step(
            self._partition,
            lambda owner, effects: owner.ledger.report(
                self._job.job_id,
                self._job.attempt,
                progress=0.0,  # it never falls
                message=f"asking the evaluator {name}",
                metrics={"phase": "evaluating"},
                now=_now(),
                effects=effects,
            ),
        )

    async def _register_version(self, result: TrainingResult, evaluation: Evaluation) -> None:
        job = self._job
        version = await self._owners.step(
            self._partition,
            lambda owner, effects: owner.ledger.complete(
                job.job_id,
                job.attempt,
                artifact=result.artifact,
                base_model=self._config.trainer.starts_from,
                metrics=result.metrics,
                evaluation=evaluation,
                message=result.message,
                now=_now(),
                effects=effects,
            ),
        )
        if version is None:
            raise Lost("another attempt has begun")
        log.info("job.completed", version=version.version, number=version.number, status=version.status)
        await asyncio.to_thread(CheckpointStore(self._store, job.job_id).delete)


def _result(status: TrainingJobStatus) -> TrainingResult:
    try:
        return TrainingResult.model_validate(status.metadata)
    except ValidationError as error:
        message = f"the status of the completed job holds no TrainingResult: {error}"
        raise TrainingFailed("bad_result", message) from error


def _now() -> datetime:
    return datetime.now(UTC)
