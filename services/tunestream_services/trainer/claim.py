"""What an attempt may write of its job, as long as it is the current one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from tunestream.domain.jobs.ledger import JobLedger
from tunestream.domain.jobs.lifecycle import TERMINAL
from tunestream.events.models import Evaluation, ModelVersion
from tunestream.events.training import JobRecord
from tunestream.trainers import Stop, TrainingResult
from tunestream_services.trainer.mailbox import Mailbox
from tunestream_services.trainer.owners import Lost, Owners

__all__ = ["Claim"]

log = structlog.get_logger(__name__)


class Claim:
    """An attempt's claim to its job.

    Args:
        owners: who commits.
        partition: the job's.
        job: as the attempt began.
    """

    def __init__(self, owners: Owners, partition: int, job: JobRecord) -> None:
        self.job = job
        self._owners = owners
        self._partition = partition
        self._published: tuple[object, ...] = (job.progress or 0.0, job.message, {})

    @property
    def ledger(self) -> JobLedger:
        """The ledger of the job's owner.

        Raises:
            Lost: when its partition is away.
        """
        return self._owners.get(self._partition).ledger

    def check(self) -> None:
        """Look whether the attempt still counts; while its partition is away nobody knows, and it goes on.

        Raises:
            Lost: when it does not.
        """
        owner = self._owners.find(self._partition)
        if owner is not None and not owner.ledger.holds(self.job.job_id, self.job.attempt):
            raise Lost("the job was ended, or another attempt has begun")

    def why_lost(self) -> Stop:
        """Return why the training of a lost attempt is stopped."""
        owner = self._owners.find(self._partition)
        job = None if owner is None else owner.ledger.job(self.job.job_id)
        return Stop.CANCELED if job is not None and job.status in TERMINAL else Stop.LOST

    async def follow(self, task: asyncio.Task[Any], mailbox: Mailbox) -> None:
        """Publish reports until a task ends.

        Raises:
            Lost: when the attempt may not commit any more.
        """
        while not task.done():
            changed = asyncio.create_task(self._owners.changed(), name="owners-changed")
            news = asyncio.create_task(mailbox.wait(), name="job-news")
            try:
                self.check()
                await self._publish(mailbox)
                await asyncio.wait({task, changed, news}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
                news.cancel()

    async def _publish(self, mailbox: Mailbox) -> None:
        standing = mailbox.take()
        if standing is None:
            return
        progress = standing.progress
        news = (progress.percent, progress.text, standing.metadata())
        if news != self._published:
            self._published = news
            await self.report(*news)

    async def report(self, progress: float, message: str, metrics: Mapping[str, Any]) -> None:
        """Commit how far the job is; ``progress`` in per cent.

        Raises:
            Lost: when the partition does not come back in time.
        """
        job = self.job
        await self._owners.step(
            self._partition,
            lambda owner, effects: owner.ledger.report(
                job.job_id,
                job.attempt,
                progress=progress,
                message=message,
                metrics=metrics,
                now=_now(),
                effects=effects,
            ),
        )

    async def cancel(self, code: str, message: str) -> None:
        """Commit that the job was canceled.

        Raises:
            Lost: when the attempt may not commit any more.
        """
        self.check()
        job = self.job.job_id
        await self._owners.step(
            self._partition,
            lambda owner, effects: owner.ledger.cancel(
                job, code=code, message=message, now=_now(), effects=effects
            ),
        )

    async def complete(self, result: TrainingResult, base_model: str, evaluation: Evaluation) -> ModelVersion:
        """Commit the job's end with the version that it made.

        Raises:
            Lost: when the attempt may not commit any more.
        """
        job = self.job
        version = await self._owners.step(
            self._partition,
            lambda owner, effects: owner.ledger.complete(
                job.job_id,
                job.attempt,
                artifact=result.artifact,
                base_model=base_model,
                metrics=result.metrics,
                evaluation=evaluation,
                message=result.message,
                now=_now(),
                effects=effects,
            ),
        )
        if version is None:
            raise Lost("another attempt has begun")
        return version


def _now() -> datetime:
    return datetime.now(UTC)
