"""The reference's life cycle over a backend, without anything that trains."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.scripted_backend import (
    ScriptedBackend,
    ScriptedConfig,
    fails,
    finishes,
    install,
    spec_of,
)
from tests.helpers.tiny_model import rows
from tunestream.config.nat.finetune import FinetuneConfig
from tunestream.config.run.reward import RewardFunctionConfig
from tunestream.events.training import TrainingJobRef, TrainingStatusEnum
from tunestream.events.trajectories import DPOItem, Trajectory, TrajectoryCollection
from tunestream.trainers import (
    Checkpoint,
    JobSpec,
    Progress,
    Report,
    Retry,
    Stop,
    TrainerAdapter,
    TrainingCanceled,
    TrainingFailed,
    TrainingResult,
    UnknownJob,
)
from tunestream.trainers.trl.config import TRLTrainerConfig

PENDING, RUNNING, COMPLETED, FAILED, CANCELED = TrainingStatusEnum
NO_WAIT = Retry(max_attempts=3, delay=0.0)


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch)


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend(finishes())


@pytest.fixture
def adapter(backend: ScriptedBackend, tmp_path: Path) -> TrainerAdapter:
    return make(backend, tmp_path)


def make(backend: ScriptedBackend, folder: Path, *, local: bool = True) -> TrainerAdapter:
    config = ScriptedConfig(local=local)
    return TrainerAdapter(adapter_config=config, artifacts=str(folder), backend=backend, retry=NO_WAIT)


def collection(seed: int = 0, run_id: str = "run") -> TrajectoryCollection:
    items = [
        DPOItem(prompt=row.prompt, chosen_response=row.chosen, rejected_response=row.rejected)
        for row in rows(2, seed=seed)
    ]
    groups = [[Trajectory(episode=[item], reward=1.0)] for item in items]
    return TrajectoryCollection(trajectories=groups, run_id=run_id)


def empty() -> TrajectoryCollection:
    return TrajectoryCollection(trajectories=[], run_id="run")


async def test_it_is_made_and_initialised_as_the_reference_does(
    adapter: TrainerAdapter, backend: ScriptedBackend
) -> None:
    finetuning = FinetuneConfig(reward_function=RewardFunctionConfig(name="judge"))
    await adapter.initialize(finetuning)
    assert adapter.run_config is finetuning
    assert backend.checks == 1


async def test_health_is_what_the_backend_says_now(adapter: TrainerAdapter, backend: ScriptedBackend) -> None:
    assert await adapter.is_healthy()
    backend.fault = TrainingFailed("service_unreachable", "it is away")
    assert not await adapter.is_healthy()
    backend.fault = RuntimeError("a bug")
    assert not await adapter.is_healthy()
    with pytest.raises(TrainingFailed, match="a bug"):
        await adapter.initialize()


async def test_a_completed_job_has_its_result(adapter: TrainerAdapter) -> None:
    ref = await adapter.submit(collection())
    assert (await adapter.status(ref)).status is PENDING
    status = await adapter.wait_until_complete(ref)
    assert (status.status, status.progress, status.backend) == (COMPLETED, 100.0, "scripted")
    assert TrainingResult.model_validate(status.metadata).message == "made a"


async def test_a_status_shows_what_was_reported(adapter: TrainerAdapter, backend: ScriptedBackend) -> None:
    reported, goes_on = asyncio.Event(), asyncio.Event()

    async def script(spec: JobSpec, report: Report) -> TrainingResult:
        report(Progress(percent=40.0, phase="training", step=4, total=10, metrics={"loss": 0.5}))
        report(Checkpoint(step=4))
        report(Progress(percent=20.0, phase="saving", step=4, total=10))
        reported.set()
        await goes_on.wait()
        return await finishes()(spec, report)

    backend.script = script
    ref = await adapter.submit(collection())
    await reported.wait()
    status = await adapter.status(ref)
    assert (status.status, status.progress, status.message) == (RUNNING, 40.0, "saving, step 4 of 10")
    assert status.metadata == {"phase": "saving", "step": 4, "total": 10, "checkpoint": 4}
    goes_on.set()
    assert (await adapter.wait_until_complete(ref)).status is COMPLETED


async def test_a_run_continues_from_its_last_version(
    adapter: TrainerAdapter, backend: ScriptedBackend
) -> None:
    first = await adapter.submit(collection())
    await adapter.wait_until_complete(first)
    second = await adapter.submit(collection())
    await adapter.wait_until_complete(await adapter.submit(collection(run_id="other")))
    await adapter.wait_until_complete(second)
    assert first != second
    assert [spec.parent and spec.parent.uri for spec in backend.specs] == [None, "weights/a", None]


async def test_a_broken_job_is_tried_again_as_often_as_allowed(
    adapter: TrainerAdapter, backend: ScriptedBackend
) -> None:
    backend.script = fails("worker_died", "store_unreachable", then=finishes())
    status = await adapter.wait_until_complete(await adapter.submit(collection()))
    assert status.status is COMPLETED
    assert [spec.attempt for spec in backend.specs] == [1, 2, 3]
    backend.script = fails(*["worker_died"] * 3, then=finishes())
    status = await adapter.wait_until_complete(await adapter.submit(collection(seed=1)))
    assert (status.status, status.metadata) == (FAILED, {"reason": "worker_died"})


async def test_a_fault_of_the_job_ends_it(adapter: TrainerAdapter, backend: ScriptedBackend) -> None:
    backend.script = fails("out_of_memory", then=finishes())
    status = await adapter.wait_until_complete(await adapter.submit(collection()))
    assert (status.status, status.metadata) == (FAILED, {"reason": "out_of_memory"})
    assert len(backend.specs) == 1


async def test_a_failed_job_can_be_submitted_again(adapter: TrainerAdapter, backend: ScriptedBackend) -> None:
    backend.script = fails("out_of_memory", then=finishes())
    first = await adapter.submit(collection())
    assert (await adapter.wait_until_complete(first)).status is FAILED
    assert await adapter.submit(collection()) == first
    assert (await adapter.wait_until_complete(first)).status is COMPLETED
    assert [spec.attempt for spec in backend.specs] == [1, 2]


async def test_a_job_with_a_spec_is_tried_once_as_its_attempt(
    adapter: TrainerAdapter, backend: ScriptedBackend, tmp_path: Path
) -> None:
    backend.script = fails("worker_died", then=finishes())
    spec = spec_of(tmp_path, attempt=3)
    ref = await adapter.submit(empty(), job=spec)
    assert (await adapter.wait_until_complete(ref)).metadata == {"reason": "worker_died"}
    assert await adapter.submit(empty(), job=spec) == ref
    assert (await adapter.status(ref)).status is FAILED, "the same attempt is not tried again"
    await adapter.submit(empty(), job=spec.model_copy(update={"attempt": 4}))
    assert (await adapter.wait_until_complete(ref)).status is COMPLETED
    assert [one.attempt for one in backend.specs] == [3, 4]


async def test_a_higher_attempt_takes_the_place_of_what_runs(
    backend: ScriptedBackend, tmp_path: Path
) -> None:
    adapter = make(backend, tmp_path, local=False)
    backend.script = ScriptedBackend().script
    await adapter.submit(empty(), job=spec_of(tmp_path))
    await backend.began.wait()
    backend.script = finishes()
    ref = await adapter.submit(empty(), job=spec_of(tmp_path, attempt=2))
    assert (await adapter.wait_until_complete(ref)).status is COMPLETED
    assert backend.stops == [Stop.LOST]


async def test_a_spec_without_rows_takes_those_of_the_collection(
    adapter: TrainerAdapter, backend: ScriptedBackend, tmp_path: Path
) -> None:
    ref = await adapter.submit(collection(), job=spec_of(tmp_path, train=None))
    await adapter.wait_until_complete(ref)
    (spec,) = backend.specs
    assert spec.train is not None
    assert spec.train.rows == 2


async def test_what_cannot_be_trained_is_refused(adapter: TrainerAdapter, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no trajectories"):
        await adapter.submit(empty())
    foreign = TRLTrainerConfig.model_validate({"model": {"hf_model_ckpt": "a"}})
    with pytest.raises(ValueError, match="scripted cannot train a job of trainer trl"):
        await adapter.submit(empty(), job=spec_of(tmp_path, config=foreign))


@pytest.mark.parametrize(("local", "beside"), [(True, 1), (False, 3)])
async def test_jobs_of_this_machine_run_one_by_one_and_remote_ones_side_by_side(
    tmp_path: Path, local: bool, beside: int
) -> None:
    running, most, go_on = 0, 0, asyncio.Event()

    async def script(spec: JobSpec, report: Report) -> TrainingResult:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await go_on.wait()
        running -= 1
        return await finishes()(spec, report)

    backend = ScriptedBackend(script)
    adapter = make(backend, tmp_path, local=local)
    refs = [await adapter.submit(collection(seed)) for seed in range(3)]
    for _ in range(beside):
        await backend.arrivals.get()
    go_on.set()
    ends = [await adapter.wait_until_complete(ref) for ref in refs]
    assert most == beside
    assert [end.status for end in ends] == [COMPLETED] * 3
    assert [end.time for end in ends] == sorted(end.time for end in ends)


async def test_a_waiting_and_a_running_job_are_canceled(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    adapter = make(backend, tmp_path)
    running, waiting = [await adapter.submit(collection(seed)) for seed in range(2)]
    await backend.began.wait()
    messages = []
    for ref in (waiting, running):
        await adapter.cancel(ref)
        await adapter.cancel(ref)
        status = await adapter.wait_until_complete(ref)
        assert (status.status, status.metadata) == (CANCELED, {"reason": "canceled"})
        messages.append(status.message)
    assert messages == ["canceled before it started", "canceled as asked"]
    assert backend.stops == [Stop.CANCELED]
    await adapter.cancel(running)
    assert (await adapter.status(running)).status is CANCELED


async def test_a_job_that_its_service_canceled_is_canceled(
    adapter: TrainerAdapter, backend: ScriptedBackend
) -> None:
    async def script(_spec: JobSpec, _report: Report) -> TrainingResult:
        raise TrainingCanceled("canceled", "by an operator")

    backend.script = script
    status = await adapter.wait_until_complete(await adapter.submit(collection()))
    assert (status.status, status.message) == (CANCELED, "by an operator")


async def test_closing_cancels_what_nobody_else_counts_and_leaves_the_rest_in_its_service(
    tmp_path: Path,
) -> None:
    backend = ScriptedBackend()
    adapter = make(backend, tmp_path, local=False)
    ours = await adapter.submit(collection())
    theirs = await adapter.submit(empty(), job=spec_of(tmp_path))
    for _ in range(2):
        await backend.arrivals.get()
    await adapter.close()
    await adapter.close()
    assert sorted(backend.stops) == [Stop.CANCELED, Stop.SHUTDOWN]
    assert backend.closed == 0, "its owner closes it"
    status = await adapter.wait_until_complete(ours)
    assert (status.status, status.metadata) == (CANCELED, {"reason": "closed"})
    assert (await adapter.status(theirs)).status is RUNNING
    with pytest.raises(TrainingFailed, match="goes on in the service"):
        await adapter.wait_until_complete(theirs)


async def test_a_backend_that_the_adapter_opened_is_closed_with_it(tmp_path: Path) -> None:
    adapter = TrainerAdapter(ScriptedConfig(), artifacts=str(tmp_path))
    assert isinstance(adapter.backend, ScriptedBackend)
    await adapter.close()
    assert adapter.backend.closed == 1


class Adopting(TrainerAdapter):
    """Its service knows one job from earlier."""

    async def adopt(self, ref: TrainingJobRef) -> JobSpec | None:
        name = (ref.metadata or {})["job_id"]
        return spec_of(Path(self.artifacts), name, train=None) if name == "earlier" else None


async def test_a_job_that_the_service_knows_is_watched_on(tmp_path: Path, backend: ScriptedBackend) -> None:
    adapter = Adopting(ScriptedConfig(), artifacts=str(tmp_path), backend=backend)

    def ref(name: str) -> TrainingJobRef:
        return TrainingJobRef(run_id="run", backend="scripted", metadata={"job_id": name})

    ends = await asyncio.gather(*(adapter.wait_until_complete(ref("earlier")) for _ in range(2)))
    assert [end.status for end in ends] == [COMPLETED] * 2
    assert len(backend.specs) == 1
    with pytest.raises(UnknownJob, match="never"):
        await adapter.status(ref("never"))


async def test_a_job_is_ended_in_its_service_however_soon_it_is_canceled(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    adapter = Adopting(ScriptedConfig(local=False), artifacts=str(tmp_path), backend=backend)
    earlier = TrainingJobRef(run_id="run", backend="scripted", metadata={"job_id": "earlier"})
    for ref in (earlier, await adapter.submit(collection())):
        await adapter.cancel(ref)
        assert (await adapter.wait_until_complete(ref)).status is CANCELED
    assert backend.stops == [Stop.CANCELED] * 2


async def test_closing_waits_for_jobs_as_long_as_it_is_set_to(tmp_path: Path) -> None:
    async def script(_spec: JobSpec, _report: Report) -> TrainingResult:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    backend = ScriptedBackend(script)
    adapter = make(backend, tmp_path)
    adapter.close_seconds = 0.05
    ref = await adapter.submit(collection())
    await backend.began.wait()
    async with asyncio.timeout(90):
        await adapter.close()
    assert (await adapter.status(ref)).status is CANCELED


async def test_a_thousand_finished_jobs_are_remembered(
    adapter: TrainerAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunestream.trainers.harness_jobs._REMEMBERED", 2)
    refs: list[Any] = []
    for seed in range(4):
        refs.append(await adapter.submit(collection(seed)))
        await adapter.wait_until_complete(refs[-1])
    with pytest.raises(UnknownJob):
        await adapter.status(refs[0])
    for ref in refs[1:]:
        assert (await adapter.status(ref)).status is COMPLETED
