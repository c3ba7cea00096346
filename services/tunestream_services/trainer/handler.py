"""Batches and commands → jobs; the jobs themselves are run by the scheduler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import structlog
from typing_extensions import override

from tunestream.domain.effects import Effects, Refused
from tunestream.domain.jobs.commands import obey
from tunestream.domain.jobs.ledger import JobLedger
from tunestream.domain.jobs.lifecycle import TERMINAL
from tunestream.domain.jobs.state import LIVE
from tunestream.domain.models.monitoring import observe
from tunestream.events.keys import decode_key, encode_key
from tunestream.events.live import LiveRecord, LiveScores
from tunestream.events.training import ControlCommand, JobRecord, TrainingBatch, TrainingStatusEnum
from tunestream.events.windows import CurriculumWindow
from tunestream.streams.runs import RunDirectory
from tunestream.streams.tasks.handler import Handler, Inbound, TaskContext
from tunestream_services.trainer.models import ModelDirectory
from tunestream_services.trainer.scheduler import Owner, Scheduler
from tunestream_services.trainer.serving import OwnedRuns

__all__ = ["TrainerHandler"]

Result = TypeVar("Result")
log = structlog.get_logger(__name__)


class TrainerHandler(Handler, Owner):
    """One partition number of ``training.batches`` and ``training.control``: the owner of its runs."""

    def __init__(
        self, runs: RunDirectory, models: ModelDirectory, scheduler: Scheduler, served: OwnedRuns
    ) -> None:
        self.ledger = JobLedger()
        self._runs = runs
        self._models = models
        self._scheduler = scheduler
        self._served = served
        self._context: TaskContext | None = None

    @override
    def restore(self, key: bytes, value: bytes) -> None:
        if decode_key(key)[-1] == LIVE:
            self.ledger.restore_live(LiveRecord.of_service(value))
        else:
            self.ledger.restore_job(JobRecord.of_service(value))

    @override
    async def start(self, context: TaskContext) -> None:
        """Read the models as they are now that the predecessor is fenced, and offer the jobs."""
        self._context = context
        await self._models.refresh()
        self.ledger.restore_models(self._models.values())
        self._scheduler.register(context.partition, self)
        self._served.own(context.partition, self)

    @override
    async def prepare(self, records: Sequence[Inbound], now: float) -> None:
        """Read the runs again when a batch names a configuration that is not known."""
        for record in records:
            batch = record.body.batch if isinstance(record.body, ControlCommand) else record.body
            if isinstance(batch, TrainingBatch | LiveScores) and not self._knows(batch):
                await self._runs.refresh_since(now)
                return

    @override
    def handle(self, record: Inbound, effects: Effects) -> None:
        """Make a batch's job, take live scores, or carry out a command."""
        body = record.body
        if isinstance(body, CurriculumWindow):  # it is for people and their tools
            return
        assert isinstance(body, TrainingBatch | LiveScores | ControlCommand)
        if record.key != encode_key(body.run_id):
            raise Refused(
                "wrong_key", f"the record's key is not the run {body.run_id!r}; its owner is elsewhere"
            )
        now = datetime.now(UTC)
        if isinstance(body, ControlCommand):
            backend = None if body.batch is None else self._backend(body.batch)
            obey(self.ledger, body, now=now, effects=effects, backend=backend)
            return
        if not self._knows(body):
            raise Refused("unknown_run", f"run {body.run_id!r} has no configuration {body.config_digest}")
        config = self._runs.config(body.run_id, body.config_digest)
        if isinstance(body, TrainingBatch):
            self.ledger.accept(body, backend=config.trainer.type, now=now, effects=effects)
            return
        reason = observe(self.ledger, body, config.evaluation.live, now=now, effects=effects)
        if reason is not None:
            log.warning("version.rolled_back", run=body.run_id, reason=reason)

    def _knows(self, body: TrainingBatch | LiveScores) -> bool:
        return self._runs.has(body.run_id, body.config_digest)

    def _backend(self, batch: TrainingBatch) -> str | None:
        if not self._knows(batch):
            return None
        return self._runs.config(batch.run_id, batch.config_digest).trainer.type

    @override
    async def complete(self, effects: Effects) -> None:
        """Wake the scheduler: there may be a job to run, or one to stop."""
        if effects.outbound:
            self._scheduler.wake()

    @override
    async def transact(self, step: Callable[[Effects], Result]) -> Result:
        """Take a step of the ledger in a transaction of its own and return what it returned."""
        assert self._context is not None
        results: list[Result] = []
        await self._context.transact(lambda effects: results.append(step(effects)))
        return results[0]

    @override
    def gauges(self) -> dict[str, float]:
        jobs = self.ledger.jobs()
        return {
            "jobs_pending": sum(job.status is TrainingStatusEnum.PENDING for job in jobs),
            "jobs_running": sum(job.status is TrainingStatusEnum.RUNNING for job in jobs),
            "jobs_finished": sum(job.status in TERMINAL for job in jobs),
        }

    @override
    def idle_due(self, now: float) -> bool:
        """Let a fault of the scheduler become one of this partition: visible, and tried again."""
        del now
        self._scheduler.check()
        return False

    @override
    async def stop(self) -> None:
        if self._context is not None:
            self._scheduler.unregister(self._context.partition, self)
            self._served.disown(self._context.partition, self)
