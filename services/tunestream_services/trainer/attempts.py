"""Decides about the attempts of a job: whether one starts, and what follows a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from pydantic import ValidationError

from tunestream.artifacts import ArtifactStore
from tunestream.config.run.plugins import NotInstalled
from tunestream.config.run.run import RunConfig
from tunestream.config.run.trainers import TrainerSection, resolved
from tunestream.domain.jobs.ledger import JobLedger
from tunestream.domain.jobs.lifecycle import OWNER_DIED
from tunestream.domain.jobs.scheduling import overflowing, policy_lag
from tunestream.events.training import JobRecord
from tunestream.trainers import TrainingFailed, find_backend, is_infrastructure
from tunestream_services.trainer.attempt import Attempt
from tunestream_services.trainer.backends import Backends
from tunestream_services.trainer.claim import Claim
from tunestream_services.trainer.metrics import POLICY_LAG
from tunestream_services.trainer.owners import Lost, Owners
from tunestream_services.trainer.settings import TrainerSettings

__all__ = ["Attempts"]

log = structlog.get_logger(__name__)


class Attempts:
    """Runs the attempts of jobs, as the retry policy allows.

    Args:
        owners: who commits.
        backends: of this replica.
        is_local: whether a job trains on this machine.
        store: datasets, checkpoints and weights.
        settings: attempts and waits.
    """

    def __init__(
        self,
        owners: Owners,
        backends: Backends,
        is_local: Callable[[JobRecord], bool],
        store: ArtifactStore,
        settings: TrainerSettings,
    ) -> None:
        self._owners = owners
        self._backends = backends
        self._is_local = is_local
        self._store = store
        self._retry = settings.retry()
        self._grace = settings.cancel_grace_seconds

    async def run(self, partition: int, job: JobRecord, config: RunConfig) -> None:
        """Run the next attempt of a job, and commit what becomes of the job.

        Raises:
            Lost: when the attempt may not commit any more.
        """
        if await self._ended_early(partition, job, config):
            return
        try:
            _check_readable(config.trainer)
            await self._wait_for_its_turn(job)
            claim = Claim(self._owners, partition, await self._begin(partition, job.job_id))
            await Attempt(claim, config, backends=self._backends, store=self._store, grace=self._grace).run()
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
        if not self._retry.allows(broken):
            raise TrainingFailed(OWNER_DIED, f"{broken} attempts broke off, the last one with its trainer")
        await asyncio.sleep(self._retry.seconds(broken))

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
        """End a job, unless another attempt may succeed; the reason is logged and kept."""
        if is_infrastructure(failure.code):
            await self._break_off(partition, job, failure)
        latest = self._owners.get(partition).ledger.job(job.job_id) or job
        if latest.attempt > job.attempt + 1:
            raise Lost("another attempt has begun")
        if self._retry.follows(failure, self._broken(latest)):
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


def _check_readable(trainer: TrainerSection) -> None:
    """Look whether the backend is here and reads its section, which another release may have written."""
    try:
        find_backend(trainer.type)
        resolved(trainer)
    except NotInstalled as missing:
        raise TrainingFailed("no_backend", f"this trainer has no such backend: {missing}") from missing
    except ValidationError as error:
        message = f"this trainer's {trainer.type} cannot read its section; apply the run again: {error}"
        raise TrainingFailed("bad_section", message) from error


def _lag(ledger: JobLedger, job: JobRecord) -> int:
    current = ledger.current(job.run_id)
    version = None if current is None else current.version
    return policy_lag(job.batch, version, ledger.versions(job.run_id))


def _now() -> datetime:
    return datetime.now(UTC)
