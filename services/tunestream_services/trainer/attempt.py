"""One attempt of a job, with any backend."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from tunestream.artifacts import ArtifactStore, ArtifactUnreachable, CheckpointStore
from tunestream.config.run.run import RunConfig
from tunestream.domain.models.evaluation import judge
from tunestream.events.models import Evaluation
from tunestream.trainers import (
    Backend,
    JobSpec,
    Stop,
    TrainingCanceled,
    TrainingFailed,
    TrainingResult,
    find_backend,
    stop_of,
)
from tunestream.trainers.attempt import as_training_failure, train_once
from tunestream_services.trainer.backends import Backends
from tunestream_services.trainer.claim import Claim
from tunestream_services.trainer.evaluating import ask_evaluators
from tunestream_services.trainer.mailbox import Mailbox

__all__ = ["Attempt"]

log = structlog.get_logger(__name__)
_BREAK_SECONDS: Final = 10.0  # for a job to end whose backend was closed


class Attempt:
    """An attempt that was committed: trains, and commits how it ended.

    Args:
        claim: to the job.
        config: of the job's run.
        backends: of this replica.
        store: datasets, checkpoints and weights.
        grace: seconds for a job that is stopped to end by itself.
    """

    def __init__(
        self, claim: Claim, config: RunConfig, *, backends: Backends, store: ArtifactStore, grace: float
    ) -> None:
        self._claim = claim
        self._job = claim.job
        self._config = config
        self._local = find_backend(config.trainer.type).is_local(config.trainer)
        self._backends = backends
        self._store = store
        self._grace = grace

    async def run(self) -> None:
        """Train the job and commit its end, unless it is a failure.

        Raises:
            TrainingFailed: when it cannot be trained, or this attempt could not.
            Lost: when the attempt may not commit any more; what ran of it is stopped.
        """
        log.info("job.started", attempt=self._job.attempt, rows=self._job.batch.train.rows)
        await self._take_over_checkpoint()
        spec = self._specify()
        try:
            async with self._backends.use(self._config.trainer) as backend:
                with as_training_failure():
                    await backend.check()
                result = await self._train(backend, spec)
        except TrainingCanceled as canceled:
            log.warning("job.canceled_by_backend", reason=canceled.message)
            await self._claim.cancel(canceled.code, f"canceled by its backend: {canceled.message}")
        else:
            await self._complete(result, await self._evaluate(spec, result))

    async def _take_over_checkpoint(self) -> None:
        left_off = self._claim.ledger.left_off(self._job)
        if left_off is not None:
            ours, theirs = (CheckpointStore(self._store, name) for name in (self._job.job_id, left_off))
            step = await asyncio.to_thread(ours.take_over, theirs)
            log.info("job.resumed", from_job=left_off, step=step)

    def _specify(self) -> JobSpec:
        ledger, job = self._claim.ledger, self._job
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

    async def _train(self, backend: Backend, spec: JobSpec) -> TrainingResult:
        """Await the backend, and publish what it reports meanwhile.

        Raises:
            TrainingFailed: when the job cannot be trained.
            TrainingCanceled: when the service that trains it canceled it.
            Lost: when the attempt may not commit any more; the training is stopped.
        """
        mailbox = Mailbox()
        training = asyncio.create_task(
            train_once(backend, spec, mailbox.put), name=f"train-{self._job.job_id}"
        )
        training.add_done_callback(_retrieve)
        try:
            if not self._local:
                await asyncio.sleep(0)  # it gets to its service, where alone an unwanted job is ended
            await self._claim.follow(training, mailbox)
        except asyncio.CancelledError as error:
            await self._stop(training, backend, stop_of(error))
            raise
        except BaseException:
            await self._stop(training, backend, self._claim.why_lost())
            raise
        if training.cancelled():
            raise TrainingFailed("closed", "the backend canceled the training")
        return training.result()

    async def _stop(self, training: asyncio.Task[TrainingResult], backend: Backend, reason: Stop) -> None:
        """Stop what may not commit any more; a local backend that does not end it in time is closed."""
        log.info("job.stopping", attempt=self._job.attempt, reason=reason)
        training.cancel(reason)
        try:
            await asyncio.wait({training}, timeout=self._grace)
            if training.done():
                return
            log.warning("job.not_stopped", attempt=self._job.attempt, after_seconds=self._grace)
            if self._local:
                await self._backends.discard(backend)
        finally:
            training.cancel(Stop.SHUTDOWN)
        await asyncio.wait({training}, timeout=_BREAK_SECONDS)

    # -- the end

    async def _evaluate(self, spec: JobSpec, result: TrainingResult) -> Evaluation:
        """Judge the version, also by the run's own evaluators.

        Raises:
            Lost: when the attempt may not commit any more; nobody is asked then.
        """
        config = self._config.evaluation
        asked = asyncio.create_task(
            ask_evaluators(config, self._job, spec, result.artifact, self._store, self._report_evaluator),
            name=f"evaluate-{self._job.job_id}",
        )
        try:
            await self._claim.follow(asked, Mailbox())
        finally:
            asked.cancel()
            await asyncio.wait({asked})
        try:
            return judge(result.judged, config, asked.result())
        except ArtifactUnreachable as error:
            raise TrainingFailed("store_unreachable", f"the held-out rows cannot be read: {error}") from error

    async def _report_evaluator(self, name: str) -> None:
        metrics = {"phase": "evaluating"}
        await self._claim.report(0.0, f"asking the evaluator {name}", metrics)  # per cent never fall

    async def _complete(self, result: TrainingResult, evaluation: Evaluation) -> None:
        version = await self._claim.complete(result, self._config.trainer.starts_from, evaluation)
        log.info("job.completed", version=version.version, number=version.number, status=version.status)
        await asyncio.to_thread(CheckpointStore(self._store, self._job.job_id).delete)


def _retrieve(training: asyncio.Task[TrainingResult]) -> None:
    """Look at how a task ended that nobody may await any more."""
    if not training.cancelled():
        training.exception()
