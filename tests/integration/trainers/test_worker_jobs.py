"""Jobs in a worker process, whatever trains them: progress, logs, cancellation and deaths, without torch."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from tests.helpers.job_runner import DIES, ENDLESS, FAILS, PROGRAM, STALLS, STEPS
from tests.helpers.training import job_spec, log_of, make_config, run
from tunestream.artifacts import ArtifactStore
from tunestream.trainers import JobSpec
from tunestream.trainers.worker.handle import WorkerDied, WorkerHandle
from tunestream.trainers.worker.protocol import Canceled, Failed, Finished, Progress
from tunestream.trainers.worker.settings import WorkerSettings

pytestmark = pytest.mark.timeout(300)
Specify = Callable[..., JobSpec]


@pytest.fixture
def specify(artifacts: ArtifactStore) -> Specify:
    """Make jobs; the run's name says what becomes of them."""
    return lambda run_id="plain", **changes: job_spec(
        artifacts, make_config("nowhere"), run_id=run_id, **changes
    )


@pytest.fixture
async def worker() -> AsyncIterator[WorkerHandle]:
    handle = WorkerHandle(WorkerSettings(), program=PROGRAM)
    yield handle
    await handle.close()


@pytest.fixture
async def impatient() -> AsyncIterator[WorkerHandle]:
    handle = WorkerHandle(WorkerSettings(stall_timeout=1.5), program=PROGRAM)
    yield handle
    await handle.close()


async def test_a_job_reports_its_progress_and_keeps_its_own_log(
    worker: WorkerHandle, artifacts: ArtifactStore, specify: Specify
) -> None:
    first, second = specify(), specify()
    progress, end = await run(worker, first)
    assert isinstance(end, Finished), end
    assert end.result.message == f"took {STEPS} steps"
    assert [report.job_id for report in progress] == [first.job_id] * len(progress)
    assert (progress[0].phase, progress[0].step) == ("loading", 0)
    last = progress[-1]
    assert (last.step, last.total, last.percent, last.checkpoint) == (STEPS, STEPS, 100.0, STEPS)
    assert last.metrics == {"loss": 1.0 / STEPS}

    pid = worker.pid
    await run(worker, second)
    assert worker.pid == pid, "the worker is warm"
    printed = [f"step {number}" for number in range(1, STEPS + 1)]
    for spec, before in ((first, ["settled"]), (second, [])):
        lines = log_of(artifacts, spec)
        taken = lines.index(f"attempt 1 goes to worker {pid}")
        assert lines[:taken] == before, "what is printed by the start is the first job's"
        assert [line for line in lines if line.startswith("step ")] == printed
        assert lines[-1] == f"finished: took {STEPS} steps"


async def test_a_job_that_fails_or_is_canceled_leaves_the_worker_warm(
    worker: WorkerHandle, artifacts: ArtifactStore, specify: Specify
) -> None:
    failed, canceled = specify(FAILS), specify(ENDLESS)
    _, end = await run(worker, failed)
    assert isinstance(end, Failed)
    assert log_of(artifacts, failed)[-1] == "failed as refused: as asked"
    pid = worker.pid
    async for report in worker.run(canceled):
        if isinstance(report, Progress) and report.step:
            await worker.cancel(canceled.job_id)
    assert isinstance(report, Canceled)
    assert log_of(artifacts, canceled)[-1] == "stopped as asked"
    assert worker.pid == pid

    _, end = await run(worker, canceled.model_copy(update={"run_id": "plain", "attempt": 2}))
    assert isinstance(end, Finished), "a cancellation is of an attempt"


async def test_a_worker_that_dies_or_stalls_breaks_its_job_off(
    worker: WorkerHandle, impatient: WorkerHandle, artifacts: ArtifactStore, specify: Specify
) -> None:
    dies, stalls = specify(DIES), specify(STALLS)
    with pytest.raises(WorkerDied, match="the worker ended with 7; its log has the reason"):
        await run(worker, dies)
    *lines, last = log_of(artifacts, dies)
    assert "step 1" in lines, "what it printed last is kept"
    assert last == "broken off: the worker ended with 7; its log has the reason"
    with pytest.raises(WorkerDied, match=r"no step finished for 1\.5 s while training"):
        await run(impatient, stalls)
    assert impatient.pid is None
    assert worker.pid is None
    _, end = await run(worker, dies.model_copy(update={"run_id": "plain", "attempt": 2}))
    assert isinstance(end, Finished)


async def test_a_job_that_nobody_waits_for_is_killed(worker: WorkerHandle, specify: Specify) -> None:
    async with contextlib.aclosing(worker.run(specify(ENDLESS))) as reports:
        async for report in reports:
            if isinstance(report, Progress) and report.step:
                break
    assert worker.pid is None

    async def interrupted() -> None:
        with pytest.raises(WorkerDied, match="the worker was killed"):
            await run(worker, specify(ENDLESS))

    waiting = asyncio.create_task(interrupted())
    while worker.pid is None:  # noqa: ASYNC110 - nothing tells when a process starts
        await asyncio.sleep(0.01)
    await worker.start()
    await worker.kill()
    await waiting


async def test_jobs_run_one_after_another(
    worker: WorkerHandle, artifacts: ArtifactStore, specify: Specify
) -> None:
    specs = [specify() for _ in range(3)]
    ends = await asyncio.gather(*(run(worker, spec) for spec in specs))
    assert [end.job_id for _, end in ends] == [spec.job_id for spec in specs]
    takers = [line for spec in specs for line in log_of(artifacts, spec) if line.startswith("attempt")]
    assert takers == [f"attempt 1 goes to worker {worker.pid}"] * 3
