"""Runs the jobs of this replica: those of the machine one at a time, remote ones beside them.

The owner of a partition keeps the truth in its ledger; the scheduler only proposes steps. A step whose
partition is away waits for it to come back, and the training goes on meanwhile; if it does not come back
in time, or comes back to somebody else, what trains on this machine is stopped: the next owner starts the
next attempt. A remote job goes on where it is, and the next owner's attempt takes up its watch.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self

import structlog

from tunestream.artifacts import ArtifactStore
from tunestream.config.run.plugins import NotInstalled
from tunestream.config.run.run import RunConfig
from tunestream.config.run.trainers import TrainerSection
from tunestream.domain.jobs.ledger import JobLedger
from tunestream.domain.jobs.lifecycle import OWNER_DIED
from tunestream.domain.jobs.scheduling import next_job, overflowing, policy_lag
from tunestream.events.training import JobRecord
from tunestream.streams.runs import RunDirectory
from tunestream.trainers import TrainerBackend, TrainingFailed, find_backend, is_infrastructure
from tunestream_services.trainer.adapters import Adapters
from tunestream_services.trainer.attempt import Attempt
from tunestream_services.trainer.metrics import POLICY_LAG
from tunestream_services.trainer.owners import Lost, Owner, Owners
from tunestream_services.trainer.settings import TrainerSettings

__all__ = ["Owner", "Scheduler"]

log = structlog.get_logger(__name__)
# Longest time between two looks for work when nobody wakes the scheduler.
_LOOK_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class _Running:
    task: asyncio.Task[None]
    run_id: str
    local: bool


class Scheduler:
    """One replica's jobs.

    Args:
        runs: configurations.
        store: datasets, checkpoints and weights.
        settings: attempts and waits.
    """

    def __init__(self, runs: RunDirectory, store: ArtifactStore, settings: TrainerSettings) -> None:
        self._runs = runs
        self._store = store
        self._settings = settings
        self._adapters = Adapters(store.url)
        self._owners = Owners(settings.rejoin_seconds)
        self._running: dict[str, _Running] = {}
        self._warming: dict[str, asyncio.Task[None]] = {}
        self._served: dict[str, int] = {}
        self._rounds = 0
        self._loop: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._runs.watch(self.wake)
        self._start_loop()
        return self

    def _start_loop(self) -> None:
        self._loop = asyncio.create_task(self._run(), name="scheduler")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [*self._warming.values(), *(running.task for running in self._running.values())]
        tasks += [self._loop] if self._loop else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._adapters.close()

    def register(self, partition: int, owner: Owner) -> None:
        """Take up the jobs of a partition."""
        self._owners.register(partition, owner)
        if self._loop is None or self._loop.done():
            self._start_loop()

    def check(self) -> None:
        """Raise what ended the loop, if anything did; registering again starts it anew."""
        if self._loop is not None and self._loop.done() and not self._loop.cancelled():
            self._loop.result()

    def unregister(self, partition: int, owner: Owner) -> None:
        """Let go of the jobs of a partition, unless a new owner has it already."""
        self._owners.unregister(partition, owner)

    def wake(self) -> None:
        """Look for work, or whether the running jobs should go on."""
        self._owners.wake()

    # -- the loop

    async def _run(self) -> None:
        while True:
            self._collect()
            self._warm()
            while self._start_next():
                pass
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._owners.changed(), _LOOK_SECONDS)

    def _collect(self) -> None:
        """Forget the jobs that ended here; a fault of one ends the loop."""
        ended = [name for name, running in self._running.items() if running.task.done()]
        tasks = [self._running.pop(name).task for name in ended]
        for task in tasks:
            task.result()

    def _start_next(self) -> bool:
        """Start the next job; False when there is none, or no room for it."""
        jobs = {job.job_id: (job, partition) for partition, job in self._owners.jobs()}
        chosen = next_job((job for job, _ in jobs.values()), served=self._served, may_run=self._has_room)
        if chosen is None:
            return False
        self._rounds += 1
        self._served[chosen.run_id] = self._rounds
        task = asyncio.create_task(self._run_job(jobs[chosen.job_id][1], chosen), name=chosen.job_id)
        task.add_done_callback(lambda _: self.wake())
        self._running[chosen.job_id] = _Running(task, chosen.run_id, self._is_local(chosen))
        return True

    def _has_room(self, job: JobRecord) -> bool:
        """Say whether a job may start: one a run, one on this machine, and so many elsewhere."""
        running = self._running.values()
        if any(one.run_id == job.run_id for one in running):
            return False
        local = self._is_local(job)
        beside = sum(one.local == local for one in running)
        return beside < (1 if local else self._settings.max_remote_jobs)

    def _is_local(self, job: JobRecord) -> bool:
        if not self._runs.has(job.run_id, job.batch.config_digest):
            return False
        return _is_local(self._runs.config(job.run_id, job.batch.config_digest).trainer)

    def _warm(self) -> None:
        """Start what current runs need on this machine, so that their first jobs need not wait for it."""
        if not self._settings.warm_start:
            return
        for config in self._runs.all_current():
            kind = config.trainer.type
            if kind not in self._warming and _is_local(config.trainer):
                self._warming[kind] = asyncio.create_task(self._start(config.trainer), name=f"warm-{kind}")

    async def _start(self, trainer: TrainerSection) -> None:
        with contextlib.suppress(TrainingFailed):  # the first job tells the reason
            async with self._adapters.use(trainer) as adapter:
                await adapter.initialize()

    # -- one job

    async def _run_job(self, partition: int, job: JobRecord) -> None:
        with structlog.contextvars.bound_contextvars(run=job.run_id, job=job.job_id):
            try:
                await self._attempt(partition, job, await self._config(job))
            except Lost as lost:
                log.warning("job.lost", reason=str(lost))

    async def _config(self, job: JobRecord) -> RunConfig:
        if not self._runs.has(job.run_id, job.batch.config_digest):
            await self._runs.refresh()
        return self._runs.config(job.run_id, job.batch.config_digest)

    async def _attempt(self, partition: int, job: JobRecord, config: RunConfig) -> None:
        if await self._ended_early(partition, job, config):
            return
        try:
            backend = _backend(config.trainer.type)
            await self._wait_for_its_turn(job)
            started = await self._begin(partition, job.job_id)
            await Attempt(
                self._owners,
                partition,
                started,
                config,
                backend=backend,
                adapters=self._adapters,
                store=self._store,
                settings=self._settings,
            ).run()
        except TrainingFailed as failure:
            await self._failed(partition, job, failure)

    async def _ended_early(self, partition: int, job: JobRecord, config: RunConfig) -> bool:
        """Cancel jobs that should not start: too many waiting, or candidates too old."""
        ledger = self._owners.get(partition).ledger
        if job.attempt > 0:
            return False
        waiting = [other for other in ledger.jobs() if other.run_id == job.run_id]
        lag, most = _lag(ledger, job), config.trainer.max_policy_lag
        if job in overflowing(waiting, max_queued=config.trainer.max_queued):
            reason = ("overflow", f"more than {config.trainer.max_queued} jobs of the run were waiting")
        elif most is not None and lag > most:
            reason = ("stale", f"its candidates are {lag} versions old, more than {most}")
            POLICY_LAG.labels("stale").observe(lag)
        else:
            POLICY_LAG.labels("started").observe(lag)
            return False
        await self._owners.step(
            partition,
            lambda owner, effects: owner.ledger.cancel(
                job.job_id, code=reason[0], message=reason[1], now=_now(), effects=effects
            ),
        )
        return True

    async def _wait_for_its_turn(self, job: JobRecord) -> None:
        """Wait before an attempt that follows a broken one.

        Raises:
            TrainingFailed: when there were enough of them.
        """
        broken = self._broken(job)
        if broken >= self._settings.max_attempts:
            raise TrainingFailed(OWNER_DIED, f"{broken} attempts broke off, the last one with its trainer")
        if broken:
            await asyncio.sleep(self._settings.attempt_delay_seconds * 2.0 ** (broken - 1))

    def _broken(self, job: JobRecord) -> int:
        """Count the attempts that broke off; a remote job goes on when its trainer dies."""
        if self._is_local(job):
            return job.attempt
        return sum(one.code != OWNER_DIED for one in job.broken)

    async def _begin(self, partition: int, job_id: str) -> JobRecord:
        job = await self._owners.step(
            partition, lambda owner, effects: owner.ledger.start(job_id, now=_now(), effects=effects)
        )
        if job is None:
            raise Lost("the job was ended before it started")
        return job

    async def _failed(self, partition: int, job: JobRecord, failure: TrainingFailed) -> None:
        """End a job, unless another attempt may succeed; why this one broke off is told and kept."""
        if is_infrastructure(failure.code):
            await self._break_off(partition, job, failure)
        latest = self._owners.get(partition).ledger.job(job.job_id) or job
        if latest.attempt > job.attempt + 1:
            raise Lost("another attempt has begun")
        if is_infrastructure(failure.code) and self._broken(latest) < self._settings.max_attempts:
            return
        log.error("job.failed", code=failure.code, reason=failure.message)
        await self._owners.step(
            partition,
            lambda owner, effects: owner.ledger.fail(
                job.job_id, code=failure.code, message=failure.message, now=_now(), effects=effects
            ),
        )

    async def _break_off(self, partition: int, job: JobRecord, failure: TrainingFailed) -> None:
        attempt = job.attempt + 1
        log.warning("job.attempt_failed", attempt=attempt, code=failure.code, reason=failure.message)
        await self._owners.step(
            partition,
            lambda owner, effects: owner.ledger.break_off(
                job.job_id,
                attempt,
                code=failure.code,
                message=failure.message,
                now=_now(),
                effects=effects,
            ),
        )


def _backend(kind: str) -> TrainerBackend[Any]:
    try:
        return find_backend(kind)
    except NotInstalled as missing:
        raise TrainingFailed("no_backend", f"this trainer has no such backend: {missing}") from missing


def _is_local(trainer: TrainerSection) -> bool:
    try:
        return find_backend(trainer.type).is_local(trainer)
    except NotInstalled:
        return False  # its jobs fail at once, and need no room on this machine


def _lag(ledger: JobLedger, job: JobRecord) -> int:
    current = ledger.current(job.run_id)
    version = None if current is None else current.version
    return policy_lag(job.batch, version, ledger.versions(job.run_id))


def _now() -> datetime:
    return datetime.now(UTC)
