"""Attempts of a job between a backend that does as it is told and a ledger, without a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pytest

from tests.helpers.batches import batch
from tests.helpers.runs import run_config
from tests.helpers.scripted_backend import Script, ScriptedBackend, fails, finishes, install
from tunestream.artifacts import ArtifactStore
from tunestream.config.run.run import RunConfig
from tunestream.domain.effects import Effects
from tunestream.domain.jobs.ledger import JobLedger
from tunestream.events.training import JobRecord, TrainingJobStatus, TrainingStatusEnum
from tunestream.trainers import (
    JobSpec,
    Progress,
    Report,
    Stop,
    TrainingCanceled,
    TrainingFailed,
    TrainingResult,
)
from tunestream_services.trainer.attempts import Attempts
from tunestream_services.trainer.backends import Backends
from tunestream_services.trainer.owners import Lost, Owners
from tunestream_services.trainer.settings import TrainerSettings

Result = TypeVar("Result")
RUNNING, COMPLETED, FAILED, CANCELED = (
    TrainingStatusEnum.RUNNING,
    TrainingStatusEnum.COMPLETED,
    TrainingStatusEnum.FAILED,
    TrainingStatusEnum.CANCELED,
)


class Ledger:
    """The owner of one partition with one job, whose commits succeed at once."""

    def __init__(self, owners: Owners) -> None:
        self.ledger = JobLedger()
        self.statuses: list[TrainingJobStatus] = []
        self._owners = owners
        self.take(lambda effects: self.ledger.accept(batch(), backend="scripted", now=now(), effects=effects))

    def take(self, step: Callable[[Effects], Result]) -> Result:
        effects = Effects()
        result = step(effects)
        self.statuses += [one.body for one in effects.outbound if isinstance(one.body, TrainingJobStatus)]
        self._owners.wake()
        return result

    async def transact(self, step: Callable[[Effects], Result]) -> Result:
        return self.take(step)

    @property
    def job(self) -> JobRecord:
        (job,) = self.ledger.jobs()
        return job

    def cancel(self) -> None:
        self.take(
            lambda effects: self.ledger.cancel(
                self.job.job_id, code="canceled", message="as asked", now=now(), effects=effects
            )
        )

    def start_elsewhere(self) -> None:
        self.take(lambda effects: self.ledger.start(self.job.job_id, now=now(), effects=effects))


class Trainer:
    """Everything of a trainer between the scheduler and the backend."""

    def __init__(self, folder: Path, *, local: bool, grace: float) -> None:
        self.config: RunConfig = run_config("run", trainer={"_type": "scripted", "local": local})
        self.owners = Owners(rejoin_seconds=0.05)
        self.ledger = Ledger(self.owners)
        self.owners.register(0, self.ledger)
        self.backends = Backends(str(folder))
        settings = TrainerSettings(max_attempts=2, attempt_delay_seconds=0.001, cancel_grace_seconds=grace)
        store = ArtifactStore(str(folder))
        self.attempts = Attempts(self.owners, self.backends, lambda _: local, store, settings)

    async def backend(self, script: Script | None = None) -> ScriptedBackend:
        """The backend that its jobs get, with a script."""
        async with self.backends.use(self.config.trainer) as backend:
            assert isinstance(backend, ScriptedBackend)
            backend.script = script or backend.script
            return backend

    async def attempt(self) -> None:
        await self.attempts.run(0, self.ledger.job, self.config)

    def begin(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.attempt())


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Trainer]:
    install(tmp_path, monkeypatch)

    def make(*, local: bool = True, grace: float = 5.0) -> Trainer:
        return Trainer(tmp_path / "artifacts", local=local, grace=grace)

    return make


def now() -> datetime:
    return datetime.now(UTC)


async def test_a_job_gets_its_version(trainer: Callable[..., Trainer]) -> None:
    site = trainer()
    backend = await site.backend(finishes())
    await site.attempt()
    assert backend.checks == 1
    assert site.ledger.job.status is COMPLETED
    assert site.ledger.statuses[-1].progress == 100.0
    (spec,) = backend.specs
    assert (spec.run_id, spec.job_id, spec.attempt) == ("run", site.ledger.job.job_id, 1)


async def test_reports_become_statuses_and_the_training_waits_for_none(
    trainer: Callable[..., Trainer],
) -> None:
    site, go_on = trainer(), asyncio.Event()

    async def script(spec: JobSpec, report: Report) -> TrainingResult:
        for step in range(1000):  # without a pause in which one could be published
            report(
                Progress(percent=step / 10, phase="training", step=step, total=1000, metrics={"loss": 1.0})
            )
        await go_on.wait()
        return await finishes()(spec, report)

    await site.backend(script)
    running = site.begin()
    while len(site.ledger.statuses) < 3:  # pending, started, progress
        await site.owners.changed()
    latest = site.ledger.statuses[-1]
    assert (latest.status, latest.progress, latest.message) == (RUNNING, 99.9, "training, step 999 of 1000")
    where = {"phase": "training", "step": 999, "total": 1000, "loss": 1.0, "checkpoint": 0}
    assert latest.metadata is not None
    assert {name: latest.metadata[name] for name in where} == where
    go_on.set()
    await running
    assert [one.sequence for one in site.ledger.statuses] == [0, 1, 2, 3]


async def test_a_broken_attempt_is_followed_by_as_many_as_allowed(trainer: Callable[..., Trainer]) -> None:
    site = trainer()
    await site.backend(fails("worker_died", "worker_died", then=finishes()))
    await site.attempt()
    assert (site.ledger.job.status, site.ledger.job.attempt) == (RUNNING, 1)
    await site.attempt()
    assert (site.ledger.job.status, site.ledger.job.attempt) == (FAILED, 2)
    assert [one.code for one in site.ledger.job.broken] == ["worker_died"] * 2


async def test_a_backend_that_is_not_ready_costs_an_attempt(trainer: Callable[..., Trainer]) -> None:
    site = trainer()
    backend = await site.backend(finishes())
    backend.fault = TrainingFailed("unhealthy", "not now")
    await site.attempt()
    assert [one.code for one in site.ledger.job.broken] == ["unhealthy"]
    assert backend.specs == []
    backend.fault = None
    await site.attempt()
    assert site.ledger.job.status is COMPLETED


async def test_a_fault_of_the_job_ends_it(trainer: Callable[..., Trainer]) -> None:
    site = trainer()
    await site.backend(fails("out_of_memory", then=finishes()))
    await site.attempt()
    assert site.ledger.statuses[-1].status is FAILED
    assert (site.ledger.statuses[-1].metadata or {})["reason"] == "out_of_memory"


async def test_a_job_that_its_service_canceled_is_canceled(trainer: Callable[..., Trainer]) -> None:
    async def script(_spec: JobSpec, _report: Report) -> TrainingResult:
        raise TrainingCanceled("stopped_there", "by an operator")

    site = trainer(local=False)
    await site.backend(script)
    await site.attempt()
    status = site.ledger.statuses[-1]
    assert (status.status, status.message) == (CANCELED, "canceled by its backend: by an operator")
    assert (status.metadata or {})["reason"] == "stopped_there"


@pytest.mark.parametrize("local", [True, False])
async def test_a_canceled_job_is_stopped_as_canceled(trainer: Callable[..., Trainer], local: bool) -> None:
    site = trainer(local=local)
    backend = await site.backend()
    running = site.begin()
    await backend.began.wait()
    site.ledger.cancel()
    with pytest.raises(Lost):
        await running
    assert backend.stops == [Stop.CANCELED]
    assert backend.closed == 0


async def test_a_job_that_another_attempt_owns_is_stopped_as_lost(trainer: Callable[..., Trainer]) -> None:
    site = trainer()
    backend = await site.backend()
    running = site.begin()
    await backend.began.wait()
    site.ledger.start_elsewhere()
    with pytest.raises(Lost):
        await running
    assert backend.stops == [Stop.LOST]
    assert site.ledger.job.attempt == 2


async def test_a_partition_that_does_not_come_back_loses_the_job(trainer: Callable[..., Trainer]) -> None:
    away = asyncio.Event()

    async def script(_spec: JobSpec, report: Report) -> TrainingResult:
        await away.wait()
        report(Progress(message="a report that nobody can publish"))
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    site = trainer()
    backend = await site.backend(script)
    running = site.begin()
    await backend.began.wait()
    site.owners.unregister(0, site.ledger)
    away.set()
    with pytest.raises(Lost, match="did not come back"):
        await running
    assert backend.stops == [Stop.LOST]


async def test_the_end_of_the_process_is_a_shutdown(trainer: Callable[..., Trainer]) -> None:
    site = trainer()
    backend = await site.backend()
    running = site.begin()
    await backend.began.wait()
    running.cancel(Stop.SHUTDOWN)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert backend.stops == [Stop.SHUTDOWN]
    assert site.ledger.job.status is RUNNING


@pytest.mark.parametrize(("local", "closed"), [(True, 1), (False, 0)])
async def test_a_backend_of_this_machine_that_does_not_stop_in_time_is_closed(
    trainer: Callable[..., Trainer], local: bool, closed: int
) -> None:
    stops = 0

    async def script(_spec: JobSpec, _report: Report) -> TrainingResult:
        nonlocal stops
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                stops += 1
                if stops == 2:
                    raise

    site = trainer(local=local, grace=0.05)
    backend = await site.backend(script)
    running = site.begin()
    await backend.began.wait()
    site.ledger.cancel()
    with pytest.raises(Lost):
        await running
    assert (backend.closed, stops) == (closed, 2)
    assert (await site.backend() is backend) is not local, "the next job gets another backend"


async def test_a_remote_job_that_is_canceled_before_it_is_watched_is_ended_in_its_service(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = trainer(local=False)
    backend = await site.backend()

    async def check() -> None:
        site.ledger.cancel()

    monkeypatch.setattr(backend, "check", check)
    with pytest.raises(Lost):
        await site.attempt()
    assert backend.stops == [Stop.CANCELED]


async def test_a_training_that_its_backend_cancels_breaks_the_attempt_off(
    trainer: Callable[..., Trainer],
) -> None:
    async def script(_spec: JobSpec, _report: Report) -> TrainingResult:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    site = trainer()
    await site.backend(script)
    await site.attempt()
    assert [one.code for one in site.ledger.job.broken] == ["closed"]
