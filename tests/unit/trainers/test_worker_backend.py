"""The port over a worker process, with a worker that is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.scripted_backend import spec_of
from tunestream.events.models import Artifact
from tunestream.trainers import (
    Checkpoint,
    JobSpec,
    LogLine,
    Progress,
    Stop,
    TrainingCanceled,
    TrainingFailed,
    TrainingResult,
)
from tunestream.trainers.worker import protocol
from tunestream.trainers.worker.backend import WorkerBackend
from tunestream.trainers.worker.handle import WorkerDied

RESULT = TrainingResult(
    artifact=Artifact(uri="weights", sha256="a", kind="adapter"), rows_used=1, message="trained"
)
Message = protocol.Progress | protocol.Terminal


class FakeWorker:
    """Yields what it is given; with ``endless`` it reports on until it is asked to cancel."""

    def __init__(self, *messages: Message | Exception, endless: bool = False) -> None:
        self.messages = messages
        self.endless = endless
        self.deaf = 0  # so many cancellations are not heard
        self.asked = 0
        self.killed = False
        self.closed = False
        self.fault: Exception | None = None

    async def start(self) -> None:
        if self.fault is not None:
            raise self.fault

    async def run(self, spec: JobSpec) -> AsyncGenerator[Message, None]:
        finished = False
        try:
            for message in self.messages:
                if isinstance(message, Exception):
                    raise message
                finished = isinstance(message, protocol.Terminal)
                yield message
            while self.endless:
                await asyncio.sleep(0)
                finished = self.asked > self.deaf
                yield protocol.Canceled(job_id=spec.job_id) if finished else protocol.Progress(job_id="job")
                if finished:
                    return
        finally:
            self.killed = not finished

    async def cancel(self, _job_id: str) -> None:
        self.asked += 1

    async def close(self) -> None:
        self.closed = True


def backend_of(worker: FakeWorker, *, owns_worker: bool = True) -> WorkerBackend:
    fake: Any = worker
    return WorkerBackend(fake, owns_worker=owns_worker)


async def train(worker: FakeWorker, folder: Path) -> tuple[TrainingResult, list[Any]]:
    reports: list[Progress | Checkpoint | LogLine] = []
    result = await backend_of(worker).train(spec_of(folder), reports.append)
    return result, reports


async def test_what_the_worker_reports_is_reported(tmp_path: Path) -> None:
    worker = FakeWorker(
        protocol.Progress(job_id="job"),
        protocol.Progress(job_id="job", phase="training", step=1, total=4, checkpoint=1),
        protocol.Progress(job_id="job", phase="training", step=2, total=4, checkpoint=1),
        protocol.Finished(job_id="job", result=RESULT),
    )
    result, reports = await train(worker, tmp_path)
    assert result == RESULT
    assert [type(one) for one in reports] == [Progress, Checkpoint, Progress, Progress]
    assert reports[1] == Checkpoint(step=1)
    assert [one.text for one in reports if isinstance(one, Progress)] == [
        "loading, step 0 of 0",
        "training, step 1 of 4",
        "training, step 2 of 4",
    ]
    assert not worker.killed


@pytest.mark.parametrize(
    ("end", "code", "message"),
    [
        (
            protocol.Failed(job_id="job", code="model_missing", message="none", key="model"),
            "model_missing",
            "trainer.model: none",
        ),
        (WorkerDied("killed by signal 9"), "worker_died", "killed by signal 9"),
        (TrainingFailed("missing_dependency", "no torch"), "missing_dependency", "no torch"),
    ],
)
async def test_a_failure_and_a_death_are_failures_with_a_code(
    tmp_path: Path, end: Message | Exception, code: str, message: str
) -> None:
    with pytest.raises(TrainingFailed) as caught:
        await train(FakeWorker(end), tmp_path)
    assert (caught.value.code, caught.value.message) == (code, message)


async def test_a_worker_that_ends_without_a_word_died(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed) as caught:
        await train(FakeWorker(), tmp_path)
    assert caught.value.code == "worker_died"


async def test_a_job_that_nobody_here_canceled_was_canceled_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(TrainingCanceled):
        await train(FakeWorker(protocol.Canceled(job_id="job")), tmp_path)


async def test_checking_starts_the_worker() -> None:
    worker = FakeWorker()
    await backend_of(worker).check()
    worker.fault = WorkerDied("it does not come up")
    with pytest.raises(TrainingFailed) as caught:
        await backend_of(worker).check()
    assert caught.value.code == "worker_died"


@pytest.mark.parametrize("reason", [Stop.CANCELED, Stop.LOST])
async def test_a_job_that_is_stopped_ends_after_its_step_and_the_worker_lives(
    tmp_path: Path, reason: Stop
) -> None:
    worker = FakeWorker(endless=True)
    worker.deaf = 3  # the worker did not have the job yet
    reported = asyncio.Event()
    running = asyncio.create_task(backend_of(worker).train(spec_of(tmp_path), lambda _: reported.set()))
    await reported.wait()
    running.cancel(reason)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert worker.asked > 3
    assert not worker.killed


async def test_the_end_of_the_process_kills_the_worker(tmp_path: Path) -> None:
    worker = FakeWorker(endless=True)
    reported = asyncio.Event()
    running = asyncio.create_task(backend_of(worker).train(spec_of(tmp_path), lambda _: reported.set()))
    await reported.wait()
    running.cancel(Stop.SHUTDOWN)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (worker.asked, worker.killed) == (0, True)


async def test_a_job_that_does_not_stop_is_broken_off_by_a_second_stop(tmp_path: Path) -> None:
    worker = FakeWorker(endless=True)
    worker.deaf = 1_000_000
    reported, again = asyncio.Event(), asyncio.Event()

    def report(_: object) -> None:
        (again if worker.asked else reported).set()

    running = asyncio.create_task(backend_of(worker).train(spec_of(tmp_path), report))
    await reported.wait()
    running.cancel(Stop.CANCELED)
    await again.wait()
    running.cancel(Stop.SHUTDOWN)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert worker.killed


@pytest.mark.parametrize("owns_worker", [True, False])
async def test_closing_breaks_off_what_runs_and_ends_its_own_worker(
    tmp_path: Path, owns_worker: bool
) -> None:
    worker = FakeWorker(endless=True)
    backend = backend_of(worker, owns_worker=owns_worker)
    reported = asyncio.Event()
    running = asyncio.create_task(backend.train(spec_of(tmp_path), lambda _: reported.set()))
    await reported.wait()
    await backend.close()
    with pytest.raises(TrainingFailed) as caught:
        await running
    assert caught.value.code == "closed"
    assert worker.closed is owns_worker
