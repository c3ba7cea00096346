"""Runs the jobs of this replica, one at a time, in the warm worker.

The owner of a partition keeps the truth in its ledger; the scheduler only proposes steps. A step whose
partition is away waits for it to come back, and the worker goes on meanwhile; if it does not come back
in time, or comes back to somebody else, the worker is stopped: the next owner starts the next attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Final, Protocol, Self, TypeVar

import structlog

from services.trainer.settings import TrainerSettings
from tunestream.artifacts import ArtifactStore, CheckpointStore
from tunestream.config import RunConfig, TRLTrainerConfig
from tunestream.domain.effects import Effects
from tunestream.domain.evaluation import judge
from tunestream.domain.ledger import JobLedger
from tunestream.domain.scheduling import is_stale, next_job, overflowing
from tunestream.events import JobRecord
from tunestream.streams.runs import RunDirectory
from tunestream.streams.task import TaskClosed
from tunestream.trainers.base import JobSpec, TrainingFailed
from tunestream.trainers.trl import WorkerDied, WorkerHandle
from tunestream.trainers.trl.protocol import Canceled, Failed, Finished, Progress, Terminal

__all__ = ["Owner", "Scheduler"]

Result = TypeVar("Result")
log = structlog.get_logger(__name__)
# Longest time between two looks for work when nobody wakes the scheduler.
_LOOK_SECONDS: Final = 30.0
# Between two requests to stop the same job.
_ASK_SECONDS: Final = 1.0


class Owner(Protocol):
    """Who owns the runs of one partition."""

    ledger: JobLedger

    async def transact(self, step: Callable[[Effects], Result]) -> Result:
        """Take a step of the ledger in a transaction of its own.

        Raises:
            TaskClosed: when the partition was given back.
        """


class _Lost(Exception):
    """The attempt may not commit any more: its partition is gone, or its job was ended or taken over."""


class Scheduler:
    """One replica's jobs.

    Args:
        runs: configurations.
        store: datasets, checkpoints and weights.
        settings: attempts and waits.
        worker: trains.
    """

    def __init__(
        self, runs: RunDirectory, store: ArtifactStore, settings: TrainerSettings, worker: WorkerHandle
    ) -> None:
        self._runs = runs
        self._store = store
        self._settings = settings
        self._worker = worker
        self._owners: dict[int, Owner] = {}
        self._changed = asyncio.Event()
        self._woken = asyncio.Event()
        self._served: dict[str, int] = {}
        self._rounds = 0
        self._loop: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._start_loop()
        return self

    def _start_loop(self) -> None:
        self._loop = asyncio.create_task(self._run(), name="scheduler")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        await self._worker.close()

    def register(self, partition: int, owner: Owner) -> None:
        """Take up the jobs of a partition."""
        self._owners[partition] = owner
        if self._loop is None or self._loop.done():
            self._start_loop()
        self.wake()

    def check(self) -> None:
        """Raise what ended the loop, if anything did; registering again starts it anew."""
        if self._loop is not None and self._loop.done() and not self._loop.cancelled():
            self._loop.result()

    def unregister(self, partition: int, owner: Owner) -> None:
        """Let go of the jobs of a partition, unless a new owner has it already."""
        if self._owners.get(partition) is owner:
            del self._owners[partition]
            self.wake()

    def wake(self) -> None:
        """Look for work, or whether the running job should go on."""
        self._changed.set()
        self._woken.set()

    # -- the loop

    async def _run(self) -> None:
        if self._settings.warm_start:
            with contextlib.suppress(WorkerDied, TrainingFailed):  # the first job tells the reason
                await self._worker.start()
        while True:
            self._changed.clear()
            if not await self._run_next():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), _LOOK_SECONDS)

    async def _run_next(self) -> bool:
        """Run one job; False when there is none."""
        jobs = {
            job.job_id: (job, partition)
            for partition, owner in self._owners.items()
            for job in owner.ledger.jobs()
        }
        chosen = next_job((job for job, _ in jobs.values()), served=self._served)
        if chosen is None:
            return False
        self._rounds += 1
        self._served[chosen.run_id] = self._rounds
        _, partition = jobs[chosen.job_id]
        with structlog.contextvars.bound_contextvars(run=chosen.run_id, job=chosen.job_id):
            try:
                await self._run_job(partition, chosen)
            except _Lost as lost:
                log.warning("job.lost", reason=str(lost))
        return True

    async def _run_job(self, partition: int, job: JobRecord) -> None:
        config = await self._config(job)
        trainer = config.trainer
        if await self._ended_early(partition, job, config):
            return
        if not isinstance(trainer, TRLTrainerConfig):
            await self._fail(partition, job, "no_backend", f"this trainer has no backend {trainer.type}")
        elif job.attempt >= self._settings.max_attempts:
            message = f"{job.attempt} attempts died; the trainer's log has the reasons"
            await self._fail(partition, job, "worker_died", message)
        else:
            await self._delay(job)
            await self._attempt(partition, job.job_id, config, trainer)

    async def _config(self, job: JobRecord) -> RunConfig:
        if not self._runs.has(job.run_id, job.batch.config_digest):
            await self._runs.refresh()
        return self._runs.config(job.run_id, job.batch.config_digest)

    async def _delay(self, job: JobRecord) -> None:
        """Wait before an attempt that follows a broken one."""
        if job.attempt > 0:
            await asyncio.sleep(self._settings.attempt_delay_seconds * 2.0 ** (job.attempt - 1))

    async def _ended_early(self, partition: int, job: JobRecord, config: RunConfig) -> bool:
        """Cancel jobs that should not start: too many waiting, or candidates too old."""
        ledger = self._owner(partition).ledger
        if job.attempt > 0 or not isinstance(config.trainer, TRLTrainerConfig):
            return False
        waiting = [other for other in ledger.jobs() if other.run_id == job.run_id]
        if job in overflowing(waiting, max_queued=config.trainer.max_queued):
            reason = ("overflow", f"more than {config.trainer.max_queued} jobs of the run were waiting")
        elif self._is_stale(ledger, job, config.trainer.max_policy_lag):
            reason = ("stale", f"its candidates are more than {config.trainer.max_policy_lag} versions old")
        else:
            return False
        await self._step(
            partition,
            lambda owner, effects: owner.ledger.cancel(
                job.job_id, code=reason[0], message=reason[1], now=_now(), effects=effects
            ),
        )
        return True

    def _is_stale(self, ledger: JobLedger, job: JobRecord, max_policy_lag: int | None) -> bool:
        current = ledger.current(job.run_id)
        return is_stale(
            job.batch,
            None if current is None else current.version,
            ledger.versions(job.run_id),
            max_policy_lag=max_policy_lag,
        )

    # -- one attempt

    async def _attempt(
        self, partition: int, job_id: str, config: RunConfig, trainer: TRLTrainerConfig
    ) -> None:
        """Start an attempt, train, and commit how it ended."""
        job = await self._step(
            partition, lambda owner, effects: owner.ledger.start(job_id, now=_now(), effects=effects)
        )
        if job is None:
            raise _Lost("the job was ended before it started")
        log.info("job.started", attempt=job.attempt, rows=job.batch.train.rows)
        spec = self._specify(partition, job, config)
        await self._take_over_checkpoint(partition, job)
        try:
            end = await self._train(partition, job, spec)
        except TrainingFailed as failure:
            await self._fail(partition, job, failure.code, failure.message)
        except WorkerDied as death:
            log.warning("job.worker_died", attempt=job.attempt, reason=str(death))
        else:
            await self._conclude(partition, job, config, trainer, end)

    async def _take_over_checkpoint(self, partition: int, job: JobRecord) -> None:
        left_off = self._owner(partition).ledger.left_off(job)
        if left_off is not None:
            ours, theirs = (CheckpointStore(self._store, name) for name in (job.job_id, left_off))
            step = await asyncio.to_thread(ours.take_over, theirs)
            log.info("job.resumed", from_job=left_off, step=step)

    def _specify(self, partition: int, job: JobRecord, config: RunConfig) -> JobSpec:
        ledger = self._owner(partition).ledger
        parent = ledger.versions(job.run_id).get(job.parent_version or "")
        return JobSpec(
            run_id=job.run_id,
            job_id=job.job_id,
            attempt=job.attempt,
            config=config.trainer,
            artifacts=self._store.url,
            train=job.batch.train,
            validation=job.batch.validation,
            parent=None if parent is None else parent.artifact,
            judging=ledger.held_out(job),
            judging_rows=config.evaluation.max_items,
        )

    async def _train(self, partition: int, job: JobRecord, spec: JobSpec) -> Terminal:
        stopping = asyncio.create_task(self._stop_when_lost(partition, job), name="stop-when-lost")
        try:
            return await self._follow(partition, job, spec)
        finally:
            stopping.cancel()
            await asyncio.wait([stopping])
            if not stopping.cancelled():
                stopping.result()

    async def _stop_when_lost(self, partition: int, job: JobRecord) -> None:
        """Have the worker stop once the attempt may not commit any more; kill it when it does not.

        While the partition is away nobody knows, and the attempt goes on.
        """
        while self._may_commit(partition, job):
            self._woken.clear()
            await self._woken.wait()
        log.info("job.stopping", attempt=job.attempt)
        try:
            async with asyncio.timeout(self._settings.cancel_grace_seconds):
                while True:  # a worker that still starts forgets what came before its job
                    await self._worker.cancel(job.job_id)
                    await asyncio.sleep(_ASK_SECONDS)
        except TimeoutError:
            log.warning("job.killed", attempt=job.attempt, after_seconds=self._settings.cancel_grace_seconds)
            await self._worker.kill()

    def _may_commit(self, partition: int, job: JobRecord) -> bool:
        owner = self._owners.get(partition)
        return owner is None or owner.ledger.holds(job.job_id, job.attempt)

    async def _follow(self, partition: int, job: JobRecord, spec: JobSpec) -> Terminal:
        async with contextlib.aclosing(self._worker.run(spec)) as reports:
            async for report in reports:
                if not isinstance(report, Progress):
                    return report
                await self._tell(partition, job, report)
        raise WorkerDied("the worker said nothing about the end of its job")

    async def _tell(self, partition: int, job: JobRecord, report: Progress) -> None:
        """Tell how far the attempt is; nothing when it may not commit any more: it is being stopped."""
        await self._step(
            partition,
            lambda owner, effects: owner.ledger.report(
                job.job_id,
                job.attempt,
                progress=report.percent,
                message=f"{report.phase}, step {report.step} of {report.total}",
                metrics=report.model_dump(mode="json", exclude={"type", "job_id"}, exclude_none=True),
                now=_now(),
                effects=effects,
            ),
        )

    async def _conclude(
        self, partition: int, job: JobRecord, config: RunConfig, trainer: TRLTrainerConfig, end: Terminal
    ) -> None:
        if isinstance(end, Failed):
            await self._fail(partition, job, end.code, end.message)
        elif isinstance(end, Canceled):
            raise _Lost("the job was ended, or another attempt has begun; the worker stopped")
        else:
            await self._register_version(partition, job, config, trainer, end)

    async def _register_version(
        self, partition: int, job: JobRecord, config: RunConfig, trainer: TRLTrainerConfig, end: Finished
    ) -> None:
        result = end.result
        evaluation = judge(result.judged, config.evaluation)
        version = await self._step(
            partition,
            lambda owner, effects: owner.ledger.complete(
                job.job_id,
                job.attempt,
                artifact=result.artifact,
                base_model=trainer.model.hf_model_ckpt,
                metrics=result.metrics,
                evaluation=evaluation,
                message=result.message,
                now=_now(),
                effects=effects,
            ),
        )
        if version is None:
            raise _Lost("another attempt has begun")
        log.info("job.completed", version=version.version, number=version.number, status=version.status)
        await asyncio.to_thread(CheckpointStore(self._store, job.job_id).delete)

    async def _fail(self, partition: int, job: JobRecord, code: str, message: str) -> None:
        log.error("job.failed", code=code, reason=message)
        await self._step(
            partition,
            lambda owner, effects: owner.ledger.fail(
                job.job_id, code=code, message=message, now=_now(), effects=effects
            ),
        )

    # -- partitions that come and go

    def _owner(self, partition: int) -> Owner:
        owner = self._owners.get(partition)
        if owner is None:
            raise _Lost(f"partition {partition} was given back")
        return owner

    async def _step(self, partition: int, step: Callable[[Owner, Effects], Result]) -> Result:
        """Take a step, waiting for the partition while it is away.

        Raises:
            _Lost: when it does not come back in time.
        """
        while True:
            owner = await self._await_owner(partition)
            try:
                return await owner.transact(partial(step, owner))
            except TaskClosed as closed:
                log.info("partition.away", partition=partition, reason=str(closed))
                self.unregister(partition, owner)

    async def _await_owner(self, partition: int) -> Owner:
        try:
            async with asyncio.timeout(self._settings.rejoin_seconds):
                while partition not in self._owners:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise _Lost(
                f"partition {partition} did not come back in {self._settings.rejoin_seconds:g} s"
            ) from None
        return self._owners[partition]


def _now() -> datetime:
    return datetime.now(UTC)
