"""Runs the jobs of this replica: those of the machine one at a time, remote ones beside them.

The owner of a partition keeps the truth in its ledger; the scheduler only proposes steps. A step whose
partition is away waits for it to come back, and the training goes on meanwhile; if it does not come back
in time, or comes back to somebody else, what trains on this machine is stopped: the next owner starts the
next attempt. A remote job goes on where it is, and the next owner's attempt takes up its watch.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import structlog
from pydantic import ValidationError

from tunestream.artifacts import ArtifactStore
from tunestream.config.run.plugins import NotInstalled
from tunestream.config.run.trainers import TrainerSection, resolved
from tunestream.domain.jobs.lifecycle import TERMINAL
from tunestream.domain.jobs.scheduling import next_job
from tunestream.events.training import JobRecord
from tunestream.streams.runs import RunDirectory
from tunestream.trainers import Stop, TrainingFailed, find_backend
from tunestream.trainers.attempt import as_training_failure
from tunestream_services.trainer.attempts import Attempts
from tunestream_services.trainer.backends import Backends
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
        self._settings = settings
        self._backends = Backends(store.url)
        self._owners = Owners(settings.rejoin_seconds)
        self._attempts = Attempts(self._owners, self._backends, self._is_local, store, settings)
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
            task.cancel(Stop.SHUTDOWN)
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._backends.close()

    def register(self, partition: int, owner: Owner) -> None:
        """Take up the jobs of a partition."""
        self._owners.register(partition, owner)
        if self._loop is None or self._loop.done():
            self._start_loop()

    def check(self) -> None:
        """Raise what ended the loop, if anything did; registering starts it again."""
        if self._loop is not None and self._loop.done() and not self._loop.cancelled():
            self._loop.result()

    def unregister(self, partition: int, owner: Owner) -> None:
        """Let go of the jobs of a partition, unless a new owner has it already."""
        self._owners.unregister(partition, owner)

    def wake(self) -> None:
        """Look for work, or whether the running jobs should go on."""
        self._owners.wake()

    def warnings(self) -> list[str]:
        """Return which jobs wait for a configuration that cannot be read."""
        waiting = Counter(
            (job.run_id, job.batch.config_digest)
            for _, job in self._owners.jobs()
            if job.status not in TERMINAL and not self._runs.has(job.run_id, job.batch.config_digest)
        )
        return [
            f"run {run_id}: {count} jobs wait, since its configuration {digest} cannot be read; apply it "
            "again with `tunestream run apply`"
            for (run_id, digest), count in waiting.items()
        ]

    # -- the loop

    async def _run(self) -> None:
        while True:
            self._collect()
            self._warm()
            while self._start_next():
                pass
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):  # wait_for may swallow a cancellation
                    await self._owners.changed()

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
        """Return whether a job may start: one a run, one on this machine, and so many elsewhere.

        One whose run's configuration cannot be read waits until it can.
        """
        running = self._running.values()
        if not self._runs.has(job.run_id, job.batch.config_digest):
            return False
        if any(one.run_id == job.run_id for one in running):
            return False
        local = self._is_local(job)
        beside = sum(one.local == local for one in running)
        return beside < (1 if local else self._settings.max_remote_jobs)

    def _is_local(self, job: JobRecord) -> bool:
        return _is_local(self._runs.config(job.run_id, job.batch.config_digest).trainer)

    def _warm(self) -> None:
        """Start what current runs need on this machine, so that their first jobs do not wait for it."""
        if not self._settings.warm_start:
            return
        for config in self._runs.all_current():
            kind = config.trainer.type
            if kind not in self._warming and _is_local(config.trainer):
                self._warming[kind] = asyncio.create_task(self._start(config.trainer), name=f"warm-{kind}")

    async def _start(self, trainer: TrainerSection) -> None:
        with contextlib.suppress(TrainingFailed):  # the first job reports the reason
            async with self._backends.use(trainer) as backend:
                with as_training_failure():
                    await backend.check()

    async def _run_job(self, partition: int, job: JobRecord) -> None:
        with structlog.contextvars.bound_contextvars(run=job.run_id, job=job.job_id):
            try:
                config = self._runs.config(job.run_id, job.batch.config_digest)
                await self._attempts.run(partition, job, config)
            except Lost as lost:
                log.warning("job.lost", reason=str(lost))


def _is_local(trainer: TrainerSection) -> bool:
    try:
        return find_backend(trainer.type).is_local(resolved(trainer))
    except (NotInstalled, ValidationError):
        return False  # its jobs fail at once, and need no room on this machine
