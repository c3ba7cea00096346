"""The NeMo backend against a platform that misbehaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from huggingface_hub import get_session

from tests.helpers.fake_nemo import ENDLESS, FakeNeMo, nemo_config, nemo_settings, step
from tunestream.artifacts import ArtifactStore, put_rows
from tunestream.domain.gate.split import is_held_out
from tunestream.events.dataset import PreferenceRow
from tunestream.events.messages import OpenAIMessage
from tunestream.events.training import DatasetFile, TrainingJobRef, TrainingJobStatus, TrainingStatusEnum
from tunestream.events.trajectories import (
    DPOItem,
    EpisodeItem,
    EpisodeItemRole,
    Trajectory,
    TrajectoryCollection,
)
from tunestream.trainers import (
    JobSpec,
    Stop,
    TrainingCanceled,
    TrainingFailed,
    TrainingResult,
    UnknownJob,
    stop_of,
)
from tunestream.trainers.nemo.backend import NeMoBackend, NeMoCustomizerTrainerAdapter
from tunestream.trainers.nemo.config import NeMoCustomizerTrainerAdapterConfig
from tunestream.trainers.port import JobReport
from tunestream.trainers.trl.config import TRLTrainerConfig

COMPLETED, FAILED, CANCELED = (
    TrainingStatusEnum.COMPLETED,
    TrainingStatusEnum.FAILED,
    TrainingStatusEnum.CANCELED,
)
NOTHING = TrajectoryCollection(trajectories=[], run_id="run")
MakeAdapter = Callable[..., NeMoCustomizerTrainerAdapter]


@pytest.fixture(scope="module")
def server() -> Iterator[FakeNeMo]:
    fake = FakeNeMo().start()
    yield fake
    fake.stop()


@pytest.fixture
def nemo(server: FakeNeMo) -> FakeNeMo:
    server.reset()
    return server


@pytest_asyncio.fixture(loop_scope="session")
async def make(nemo: FakeNeMo, artifacts: ArtifactStore) -> AsyncIterator[MakeAdapter]:
    """Make adapters that are closed afterwards; ``patience`` are settings."""
    made: list[NeMoCustomizerTrainerAdapter] = []

    def make(patience: dict[str, Any] | None = None, **config: Any) -> NeMoCustomizerTrainerAdapter:
        section = nemo_config(nemo, **config)
        backend = NeMoBackend(section, nemo_settings(**(patience or {})))
        made.append(NeMoCustomizerTrainerAdapter(section, artifacts=artifacts.url, backend=backend))
        return made[-1]

    yield make
    for adapter in made:
        await adapter.close()
        await adapter.backend.close()


def row(number: int, name: str = "q") -> PreferenceRow:
    return PreferenceRow(
        group_id=f"{name}-{number}",
        example_id="e",
        turn_id="t",
        prompt=[
            OpenAIMessage(role="system", content="play well"),
            OpenAIMessage(role="user", content=f"{name} {number}"),
        ],
        chosen=f"good {number}",
        rejected=f"bad {number}",
        chosen_score=1.0,
        rejected_score=0.0,
        reward=1.0,
    )


def dataset(store: ArtifactStore, count: int = 4, name: str = "q") -> DatasetFile:
    return put_rows(store, [row(number, name) for number in range(count)])


def spec(store: ArtifactStore, nemo: FakeNeMo, job_id: str = "job1", **changes: Any) -> JobSpec:
    values: dict[str, Any] = {
        "run_id": "run",
        "job_id": job_id,
        "config": nemo_config(nemo),
        "artifacts": store.url,
        "train": dataset(store),
    }
    return JobSpec(**{**values, **changes})


def collection(count: int = 30) -> TrajectoryCollection:
    def trajectory(number: int, kind: int) -> Trajectory:
        one = row(number)
        item = DPOItem(
            prompt=one.prompt, chosen_response=f"{one.chosen} {kind}", rejected_response=one.rejected
        )
        return Trajectory(episode=[item], reward=1.0)

    groups = [[trajectory(number, kind) for kind in range(3)] for number in range(count)]
    return TrajectoryCollection(trajectories=groups, run_id="run")


async def end(adapter: NeMoCustomizerTrainerAdapter, ref: TrainingJobRef) -> TrainingJobStatus:
    async with asyncio.timeout(90):
        return await adapter.wait_until_complete(ref, poll_interval=0.02)


async def run(adapter: NeMoCustomizerTrainerAdapter, job: JobSpec) -> TrainingJobStatus:
    return await end(adapter, await adapter.submit(NOTHING, job=job))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(90):
        while not condition():  # noqa: ASYNC110 - the fake runs in a thread of its own
            await asyncio.sleep(0.005)


def reason(status: TrainingJobStatus) -> str:
    return str((status.metadata or {}).get("reason"))


# -- what is sent


async def test_a_job_says_all_that_it_is(make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore) -> None:
    sent = {
        "training_type": "dpo",
        "finetuning_type": "lora",
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 1e-5,
        "max_steps": 40,
        "seed": 7,
        "warmup_steps": 3,
        "weight_decay": 0.01,
        "lora": {"adapter_dim": 16, "alpha": 32, "adapter_dropout": 0.1, "target_modules": ["*_proj"]},
        "dpo": {
            "ref_policy_kl_penalty": 0.2,
            "preference_loss_weight": 1.0,
            "preference_average_log_probs": True,
            "sft_loss_weight": 0.1,
            "sft_average_log_probs": True,
            "max_grad_norm": 0.5,
        },
    }
    config = nemo_config(nemo, hyperparameters=sent)
    status = await run(make(), spec(artifacts, nemo, config=config))
    job = nemo.job()
    assert job["hyperparameters"] == sent
    assert job["config"] == "meta/llama-3.2-1b-instruct@v1.0.0+A100"
    assert (job["namespace"], job["name"]) == ("games", "tunestream-job1-1")
    result = TrainingResult.model_validate(status.metadata)
    assert result.artifact.uri == f"nemo://{job['output_model']}"
    assert result.artifact.kind == "adapter"
    assert (result.rows_used, result.metrics["train_loss"]) == (4, 0.25)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {},
            {
                "prompt": [
                    {"role": "system", "content": "play well"},
                    {"role": "user", "content": "q 0"},
                ],
                "chosen_response": "good 0",
                "rejected_response": "bad 0",
            },
        ),
        (
            {"use_full_message_history": False},
            {"prompt": "q 0", "chosen_response": "good 0", "rejected_response": "bad 0"},
        ),
        (
            {"objective": "sft"},
            {
                "messages": [
                    {"role": "system", "content": "play well"},
                    {"role": "user", "content": "q 0"},
                    {"role": "assistant", "content": "good 0"},
                ]
            },
        ),
        (
            {"objective": "sft", "use_full_message_history": False},
            {"prompt": "q 0", "completion": "good 0"},
        ),
    ],
)
async def test_records_have_the_shape_of_their_objective(
    make: MakeAdapter,
    nemo: FakeNeMo,
    artifacts: ArtifactStore,
    config: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    status = await run(make(), spec(artifacts, nemo, config=nemo_config(nemo, **config)))
    assert status.status is COMPLETED, status
    assert nemo.trained_on(nemo.job())[0] == expected
    assert nemo.job()["hyperparameters"]["training_type"] == config.get("objective", "dpo")


async def test_a_given_split_is_kept(make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore) -> None:
    held_out = dataset(artifacts, 2, name="held out")
    await run(make(), spec(artifacts, nemo, validation=held_out))
    assert [one["chosen_response"] for one in nemo.trained_on(nemo.job())] == [f"good {n}" for n in range(4)]
    prompts = [one["prompt"][-1]["content"] for one in nemo.trained_on(nemo.job(), "validation")]
    assert prompts == ["held out 0", "held out 1"]


async def test_a_collection_is_split_by_prompt(make: MakeAdapter, nemo: FakeNeMo) -> None:
    adapter = make()
    await end(adapter, await adapter.submit(collection()))
    parts = [
        {one["prompt"][-1]["content"] for one in nemo.trained_on(nemo.job(), part)}
        for part in ("training", "validation")
    ]
    assert all(parts)
    assert not parts[0] & parts[1]
    assert parts[1] == {f"q {n}" for n in range(30) if is_held_out("run", row(n).prompt, 0.2)}


async def test_jobs_at_once_each_train_on_a_commit_of_their_own(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore
) -> None:
    adapter = make()
    specs = [spec(artifacts, nemo, f"job{n}", train=dataset(artifacts, 3, name=f"set{n}")) for n in range(4)]
    await asyncio.gather(*(run(adapter, one) for one in specs))
    for job in nemo.state.jobs.values():
        number = job["name"].split("-")[1].removeprefix("job")
        assert {one["prompt"][-1]["content"] for one in nemo.trained_on(job)} == {
            f"set{number} {n}" for n in range(3)
        }
    urls = [one["files_url"] for one in nemo.state.datasets.values()]
    assert len({url.partition("@")[2] for url in urls} - {""}) == 4


async def test_services_without_revisions_get_none(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    config = nemo_config(nemo, pin_commit=False, dataset_output_dir=str(tmp_path / "kept"))
    await run(make(), spec(artifacts, nemo, config=config))
    assert [one["files_url"] for one in nemo.state.datasets.values()] == ["hf://datasets/games/nat-dpo-job1"]
    assert (tmp_path / "kept/job1/training_file.jsonl").read_bytes().count(b"\n") == 4


async def test_a_namespace_is_made_once_and_only_if_wanted(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore
) -> None:
    nemo.state.namespaces.add("games")
    nemo.state.store_namespaces.add("games")
    for number, missing in enumerate((True, False)):
        adapter = make(create_namespace_if_missing=missing)
        for attempt in range(2):
            status = await run(adapter, spec(artifacts, nemo, f"job{number}{attempt}"))
            assert status.status is COMPLETED, status
    assert nemo.asked("POST .*/namespaces") == 2


# -- restarts


async def test_a_job_is_adopted_after_a_restart(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore
) -> None:
    nemo.state.script = list(ENDLESS)
    first = make()
    ref = await first.submit(NOTHING, job=spec(artifacts, nemo))
    await until(lambda: nemo.state.jobs)
    await first.close()
    for number in range(5):  # newer ones, on pages before ours
        nemo.state.jobs[f"other{number}"] = {
            "id": f"other{number}",
            "name": str(number),
            "status": "completed",
        }
    mine = nemo.state.jobs["cust-0"]
    assert mine["script"] == ENDLESS  # closing did not cancel it
    second = make()
    assert await second.submit(NOTHING, job=spec(artifacts, nemo, attempt=2)) == ref
    async with asyncio.timeout(90):
        while (await second.status(ref)).progress != 5.0:  # noqa: ASYNC110 - the fake has a thread of its own
            await asyncio.sleep(0.005)
    mine["script"] = [step("completed", 100)]
    status = await end(second, ref)
    assert status.status is COMPLETED
    assert TrainingResult.model_validate(status.metadata).rows_used == 4
    assert nemo.asked("POST /v1/customization/jobs$") == 1


async def test_a_reference_is_watched_again_after_a_restart(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore
) -> None:
    nemo.state.script = list(ENDLESS)
    first = make()
    ref = await first.submit(NOTHING, job=spec(artifacts, nemo))
    await until(lambda: nemo.state.jobs)
    await first.close()
    with pytest.raises(TrainingFailed, match="goes on in the service"):
        await first.wait_until_complete(ref)
    second = make()
    assert (await second.status(ref)).status is TrainingStatusEnum.PENDING
    nemo.job()["script"] = [step("completed", 100)]
    assert (await end(second, ref)).status is COMPLETED
    with pytest.raises(UnknownJob):
        await second.status(ref.model_copy(update={"run_id": "another"}))


async def test_two_owners_at_once_make_one_job(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore
) -> None:
    ends = await asyncio.gather(*(run(make(), spec(artifacts, nemo)) for _ in range(3)))
    assert {one.status for one in ends} == {COMPLETED}
    assert len(nemo.state.jobs) == 1


async def test_a_lost_answer_makes_no_second_job(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore
) -> None:
    nemo.fail("POST /v1/customization/jobs$", "lost")
    assert (await run(make(), spec(artifacts, nemo))).status is COMPLETED
    assert len(nemo.state.jobs) == 1
    assert nemo.asked("POST /v1/customization/jobs$") == 1


async def test_a_failed_job_is_trained_again_by_a_higher_attempt_only(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore
) -> None:
    nemo.state.script = [step("failed", 10.0)]
    adapter = make()
    failed = await run(adapter, spec(artifacts, nemo))
    assert (await run(adapter, spec(artifacts, nemo))) == failed
    assert reason(failed) == reason(await run(make(), spec(artifacts, nemo))) == "training_failed"
    assert len(nemo.state.jobs) == 1
    nemo.state.script = [step("completed", 100.0)]
    assert (await run(adapter, spec(artifacts, nemo, attempt=2))).status is COMPLETED
    assert [job["name"] for job in nemo.state.jobs.values()] == ["tunestream-job1-1", "tunestream-job1-2"]


async def test_what_was_uploaded_is_not_committed_again(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore
) -> None:
    nemo.fail("POST /v1/customization/jobs$", 500, times=4)
    assert reason(await run(make(), spec(artifacts, nemo))) == "service_unreachable"
    assert (await run(make(), spec(artifacts, nemo, attempt=2))).status is COMPLETED
    (commits,) = nemo.state.repositories.values()
    assert len(commits) == 1


# -- faults that pass


@pytest.mark.parametrize(
    ("route", "kind"),
    [
        ("POST /v1/namespaces", "reset"),
        ("POST /v1/namespaces", "malformed"),
        ("POST /v1/datastore/namespaces", 503),
        ("POST /v1/datastore/namespaces", "lost"),
        ("POST /v1/hf/api/repos/create", 500),
        ("POST /v1/hf/api/repos/create", "lost"),
        ("POST .*/preupload/main", "reset"),
        ("POST .*/commit/main", 503),
        ("POST .*/commit/main", "lost"),
        ("POST .*/commit/main", "malformed"),
        ("POST /v1/datasets", "lost"),
        ("GET /v1/customization/jobs$", "malformed"),
        ("GET /v1/customization/jobs$", 429),
        ("POST /v1/customization/jobs$", "malformed"),
        ("POST /v1/customization/jobs$", "reset"),
        ("POST /v1/customization/jobs$", 503),
        ("GET .*/status", "malformed"),
        ("GET .*/status", "reset"),
        ("GET .*/status", 503),
    ],
)
async def test_a_passing_fault_harms_no_job(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore, route: str, kind: int | str
) -> None:
    nemo.fail(route, kind, times=1 if "preupload" in route else 2)  # the hub's client waits longer there
    status = await run(make(), spec(artifacts, nemo))
    assert status.status is COMPLETED, status
    assert len(nemo.state.jobs) == 1
    assert len(nemo.trained_on(nemo.job())) == 4


@pytest.mark.parametrize(
    ("route", "kind"),
    [
        ("POST .*/commit/main", "slow"),
        ("POST .*/commit/main", "nonsense"),
        ("POST /v1/customization/jobs$", "slow"),
        ("POST /v1/customization/jobs$", "nonsense"),
        ("GET /v1/customization/jobs$", "nonsense"),
        ("GET .*/status", "slow"),
        ("GET .*/status", "lost"),
    ],
)
async def test_slow_and_odd_answers_harm_no_job(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore, route: str, kind: str
) -> None:
    nemo.fail(route, kind, seconds=1.5)
    adapter = make({"request_timeout": 1.0, "upload_timeout": 1.0})
    status = await run(adapter, spec(artifacts, nemo))
    assert status.status is COMPLETED, status
    assert len(nemo.state.jobs) == 1


async def test_the_loop_goes_on_while_the_data_store_is_slow(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore
) -> None:
    nemo.fail("POST .*/commit/main", "slow", seconds=2.0)
    adapter = make()
    ref = await adapter.submit(NOTHING, job=spec(artifacts, nemo))
    await until(lambda: nemo.asked("POST .*/commit"))
    assert (await adapter.status(ref)).message == "uploading the dataset"
    assert get_session().timeout.read  # the hub's own session waits for ever
    await adapter.cancel(ref)
    status = await end(adapter, ref)
    assert (status.status, reason(status)) == (CANCELED, "canceled")
    assert not nemo.state.jobs


def _looked(nemo: FakeNeMo, times: int) -> bool:
    return bool(nemo.state.jobs) and len(nemo.job()["script"]) <= 5 - times


async def test_looks_that_fail_now_and_then_do_not_add_up(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore
) -> None:
    once = {"attempts": 1}
    nemo.state.script = [step("running", float(n)) for n in range(4)] + [step("completed", 100.0)]
    adapter = make(once)
    ref = await adapter.submit(NOTHING, job=spec(artifacts, nemo))
    for looks in (1, 2, 3):
        await until(partial(_looked, nemo, looks))
        nemo.fail("GET .*/status", 500, times=2)
    assert (await end(adapter, ref)).status is COMPLETED


# -- faults that stay


@pytest.mark.parametrize(
    ("route", "kind", "code"),
    [
        ("POST /v1/customization/jobs$", 500, "service_unreachable"),
        ("POST /v1/customization/jobs$", 422, "service_refused"),
        ("POST /v1/customization/jobs$", 403, "unauthorized"),
        ("POST .*/commit/main", 500, "service_unreachable"),
        ("POST .*/commit/main", 413, "service_refused"),
        ("POST /v1/datastore/namespaces", 400, "service_refused"),
        ("GET .*/status", 500, "service_unreachable"),
        ("GET .*/status", "reset", "service_unreachable"),
        ("GET .*/status", "malformed", "service_unreachable"),
        ("GET .*/status", "nonsense", "service_unreachable"),
        ("GET .*/status", 404, "job_vanished"),
        ("GET .*/status", 401, "unauthorized"),
    ],
)
async def test_a_lasting_fault_ends_the_job_with_its_reason(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore, route: str, kind: int | str, code: str
) -> None:
    nemo.fail(route, kind, times=10_000)
    status = await run(make(), spec(artifacts, nemo))
    assert (status.status, reason(status)) == (FAILED, code), status
    assert status.message
    refused = isinstance(kind, int) and kind < 500
    looks = 3 if "status" in route else 1
    assert nemo.asked(route) == looks * (1 if refused else 4)


async def test_a_job_that_vanishes_ends(make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore) -> None:
    nemo.state.script = list(ENDLESS)
    adapter = make()
    ref = await adapter.submit(NOTHING, job=spec(artifacts, nemo))
    await until(lambda: nemo.asked("GET .*/status"))
    nemo.state.jobs.clear()
    assert reason(await end(adapter, ref)) == "job_vanished"


@pytest.mark.parametrize(
    ("script", "patience", "code", "status"),
    [
        ([step("running", 5.0)], {"stall_timeout": 0.15}, "stalled", FAILED),
        ([step("pending")], {"stall_timeout": 0.15}, "stalled", FAILED),
        ([step("unknown")], {"unknown_timeout": 0.15}, "state_unknown", FAILED),
        ([step("daydreaming")], {"unknown_timeout": 0.15}, "state_unknown", FAILED),
        ([step("cancelling")], {"cancel_timeout": 0.15}, "cancel_unconfirmed", CANCELED),
        ([step("cancelled")], {}, "canceled", CANCELED),
        (
            [step("failed", status_logs=[{"message": "no", "detail": "out of memory"}])],
            {},
            "training_failed",
            FAILED,
        ),
    ],
)
async def test_every_state_ends(
    make: MakeAdapter,
    nemo: FakeNeMo,
    artifacts: ArtifactStore,
    script: list[dict[str, Any]],
    patience: dict[str, float],
    code: str,
    status: TrainingStatusEnum,
) -> None:
    nemo.state.script = script
    found = await run(make(patience), spec(artifacts, nemo))
    assert (found.status, reason(found)) == (status, code)
    if code == "training_failed":
        assert "out of memory" in (found.message or "")
    if code in {"stalled", "state_unknown"}:
        assert nemo.asked("POST .*/cancel") == 1


@pytest.mark.parametrize("last", ["completed", "ready", "COMPLETED"])
async def test_progress_is_bounded_and_never_falls(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore, last: str
) -> None:
    shown: list[Any] = [None, 20.0, 10.0, None, "much", True, 130.0, -5.0]
    nemo.state.script = [*[step("running", one) for one in shown], step("unknown"), step(last)]
    adapter = make()
    ref = await adapter.submit(NOTHING, job=spec(artifacts, nemo))
    seen = [await adapter.status(ref)]
    while seen[-1].status not in {COMPLETED, FAILED}:
        await asyncio.sleep(0.002)
        latest = await adapter.status(ref)
        if latest != seen[-1]:
            seen.append(latest)
    progress = [one.progress or 0.0 for one in seen]
    assert seen[-1].status is COMPLETED
    assert progress == sorted(progress)
    assert {0.0, 20.0, 100.0} <= set(progress)
    assert [one.sequence for one in seen] == sorted({one.sequence for one in seen})


# -- cancel


async def test_cancel_is_repeated_until_the_service_hears_it(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore
) -> None:
    nemo.state.script = list(ENDLESS)
    nemo.fail("POST .*/cancel", 503, times=9)
    adapter = make()
    ref = await adapter.submit(NOTHING, job=spec(artifacts, nemo))
    await until(lambda: nemo.state.jobs)
    await adapter.cancel(ref)
    status = await end(adapter, ref)
    assert (status.status, reason(status)) == (CANCELED, "canceled")
    assert nemo.asked("POST .*/cancel") == 10


async def test_a_job_that_ends_first_is_not_canceled(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore
) -> None:
    nemo.state.script = list(ENDLESS)
    adapter = make()
    ref = await adapter.submit(NOTHING, job=spec(artifacts, nemo))
    await until(lambda: nemo.state.jobs)
    nemo.job().update(status="completed", script=[step("completed")])
    await adapter.cancel(ref)
    assert (await end(adapter, ref)).status is COMPLETED


async def test_closing_cancels_jobs_that_nobody_else_watches(make: MakeAdapter, nemo: FakeNeMo) -> None:
    nemo.state.script = list(ENDLESS)
    adapter = make()
    ref = await adapter.submit(collection())
    await until(lambda: nemo.state.jobs)
    await adapter.close()
    assert reason(await adapter.wait_until_complete(ref)) == "closed"
    assert nemo.asked("POST .*/cancel") == 1


# -- through the port


@pytest.mark.parametrize("stop", [Stop.SHUTDOWN, Stop.LOST])
async def test_a_job_that_is_not_canceled_goes_on_and_its_next_attempt_watches_it(
    nemo: FakeNeMo, artifacts: ArtifactStore, stop: Stop
) -> None:
    nemo.state.script = list(ENDLESS)
    first, second = (NeMoBackend(nemo_config(nemo), nemo_settings()) for _ in range(2))
    training = asyncio.create_task(first.train(spec(artifacts, nemo), no_report))
    await until(lambda: nemo.asked("GET .*/status"))
    training.cancel(stop)
    with pytest.raises(asyncio.CancelledError):
        await training
    await first.close()
    assert nemo.asked("POST .*/cancel") == 0
    nemo.job()["script"] = [step("completed", 100)]
    async with asyncio.timeout(90):
        result = await second.train(spec(artifacts, nemo, attempt=2), no_report)
    await second.close()
    assert (result.rows_used, len(nemo.state.jobs)) == (4, 1)


async def test_a_canceled_job_is_ended_in_the_service(nemo: FakeNeMo, artifacts: ArtifactStore) -> None:
    nemo.state.script = list(ENDLESS)
    backend = NeMoBackend(nemo_config(nemo), nemo_settings())
    training = asyncio.create_task(backend.train(spec(artifacts, nemo), no_report))
    await until(lambda: nemo.asked("GET .*/status"))
    training.cancel(Stop.CANCELED)
    with pytest.raises(asyncio.CancelledError) as stopped:
        await training
    await backend.close()
    assert stop_of(stopped.value) is Stop.CANCELED
    assert nemo.job()["status"] == "cancelled"


async def test_an_end_that_the_service_does_not_confirm_has_a_reason_of_its_own(
    nemo: FakeNeMo, artifacts: ArtifactStore
) -> None:
    nemo.state.script = list(ENDLESS)
    nemo.fail("POST .*/cancel", 500, times=10_000)
    backend = NeMoBackend(nemo_config(nemo), nemo_settings(cancel_timeout=0.2, attempts=1))
    training = asyncio.create_task(backend.train(spec(artifacts, nemo), no_report))
    await until(lambda: nemo.asked("GET .*/status"))
    training.cancel(Stop.CANCELED)
    with pytest.raises(TrainingCanceled) as ended:
        await training
    await backend.close()
    assert ended.value.code == "cancel_unconfirmed"


async def test_closing_the_backend_ends_the_watch_alone(nemo: FakeNeMo, artifacts: ArtifactStore) -> None:
    nemo.state.script = list(ENDLESS)
    backend = NeMoBackend(nemo_config(nemo), nemo_settings())
    training = asyncio.create_task(backend.train(spec(artifacts, nemo), no_report))
    await until(lambda: nemo.asked("GET .*/status"))
    await backend.close()
    with pytest.raises(TrainingFailed) as ended:
        await training
    assert (ended.value.code, nemo.asked("POST .*/cancel")) == ("closed", 0)


def no_report(report: JobReport) -> None:
    """Take a report, and forget it."""


# -- tokens and health


async def test_both_tokens_are_sent_and_never_logged(
    make: MakeAdapter,
    nemo: FakeNeMo,
    artifacts: ArtifactStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NEMO_KEY", "entity-secret")
    monkeypatch.setenv("HUB_KEY", "store-secret")
    nemo.fail("GET .*/status", 500)
    caplog.set_level(logging.DEBUG)
    adapter = make(api_key_env="NEMO_KEY", hf_token_env="HUB_KEY")
    status = await run(adapter, spec(artifacts, nemo))
    assert status.status is COMPLETED
    for _, path, authorization in nemo.state.requests:
        store = "/hf/" in path or "datastore" in path
        assert authorization == f"Bearer {'store' if store else 'entity'}-secret", path
    said = caplog.text + "".join(capfd.readouterr()) + repr(adapter.__dict__) + status.model_dump_json()
    assert "-secret" not in said


async def test_without_a_token_none_is_sent(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "somebody's")
    await run(make(), spec(artifacts, nemo))
    assert {authorization for _, _, authorization in nemo.state.requests} == {""}


async def test_a_wrong_token_is_said(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    nemo.state.token = "right"
    monkeypatch.setenv("NEMO_KEY", "wrong")
    adapter = make(api_key_env="NEMO_KEY")
    assert not await adapter.is_healthy()
    with pytest.raises(TrainingFailed, match="api_key_env") as failure:
        await adapter.initialize()
    assert failure.value.code == "unauthorized"
    assert reason(await run(adapter, spec(artifacts, nemo))) == "unauthorized"
    monkeypatch.setenv("NEMO_KEY", "right")
    assert await make(api_key_env="NEMO_KEY").is_healthy()


async def test_a_missing_token_is_named(make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore) -> None:
    adapter = make(api_key_env="NO_SUCH_VARIABLE")
    assert not await adapter.is_healthy()
    with pytest.raises(TrainingFailed, match="NO_SUCH_VARIABLE"):
        await adapter.initialize()
    assert reason(await run(adapter, spec(artifacts, nemo))) == "token_missing"


@pytest.mark.parametrize("host", ["entity_host", "datastore_host"])
async def test_health_asks_both_services(make: MakeAdapter, host: str, unused_tcp_port: int) -> None:
    adapter = make(**{host: f"http://127.0.0.1:{unused_tcp_port}"})
    assert not await adapter.is_healthy()
    with pytest.raises(TrainingFailed) as failure:
        await adapter.initialize()
    assert failure.value.code == "service_unreachable"


@pytest.mark.parametrize("kind", [500, "reset", "nonsense", "slow"])
async def test_a_service_that_answers_badly_is_not_healthy(
    make: MakeAdapter, nemo: FakeNeMo, kind: int | str
) -> None:
    adapter, impatient = make(), make({"request_timeout": 0.2})
    assert await adapter.is_healthy()
    nemo.fail("GET /v1/customization/jobs", kind, seconds=0.4)
    assert not await (impatient if kind == "slow" else adapter).is_healthy()
    assert await adapter.is_healthy()


# -- deployment


async def deployed(make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore, **changes: Any) -> str:
    config = nemo_config(nemo, deploy_on_completion=True, **changes)
    status = await run(make(), spec(artifacts, nemo, config=config))
    assert status.status is COMPLETED, status
    assert TrainingResult.model_validate(status.metadata).message == status.message
    return status.message or ""


async def test_a_finished_model_is_deployed(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore
) -> None:
    nim = {"image_name": "nim/llama", "image_tag": "1.2", "gpu": 2}
    message = await deployed(make, nemo, artifacts, deployment_config=nim)
    assert message.endswith("deployed as tunestream-job1 at http://nim/tunestream-job1")
    (config,) = nemo.state.configs.values()
    assert config["model"] == nemo.job()["output_model"]
    assert config["nim_deployment"] == nim


@pytest.mark.parametrize(
    ("route", "kind"),
    [
        ("POST /v1/deployment/configs", 500),
        ("POST .*/model-deployments", 422),
        ("GET .*/model-deployments", 404),
    ],
)
async def test_a_refused_deployment_fails_no_training(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore, route: str, kind: int
) -> None:
    nemo.fail(route, kind, times=1000)
    assert "; not deployed: " in await deployed(make, nemo, artifacts)


@pytest.mark.parametrize(
    ("script", "why"), [(["pending", "failed"], "is failed: as scripted"), (["unknown"], "within 0.2 s")]
)
async def test_a_deployment_that_does_not_get_ready_fails_no_training(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore, script: list[str], why: str
) -> None:
    nemo.state.deployment_script = script
    assert why in await deployed(make, nemo, artifacts, deployment_timeout_seconds=0.2)


async def test_a_model_that_was_finished_unwatched_is_deployed(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore
) -> None:
    nemo.state.script = list(ENDLESS)
    first = make(deploy_on_completion=True)
    config = nemo_config(nemo, deploy_on_completion=True)
    ref = await first.submit(NOTHING, job=spec(artifacts, nemo, config=config))
    await until(lambda: nemo.state.jobs)
    await first.close()
    nemo.job().update(status="completed", script=[step("completed", 100.0)])
    for number in range(5):
        nemo.state.deployments[f"games/other{number}"] = {"name": f"other{number}", "script": ["failed"]}
    second = make(deploy_on_completion=True)
    assert "deployed as tunestream-job1" in ((await end(second, ref)).message or "")
    assert nemo.state.configs["games/tunestream-job1"]["model"] == nemo.job()["output_model"]


async def test_a_cancel_while_deploying_keeps_the_model(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore
) -> None:
    nemo.state.deployment_script = ["pending"]
    adapter = make()
    config = nemo_config(nemo, deploy_on_completion=True)
    ref = await adapter.submit(NOTHING, job=spec(artifacts, nemo, config=config))
    await until(lambda: nemo.asked("GET .*/model-deployments"))
    await adapter.cancel(ref)
    status = await end(adapter, ref)
    assert (status.status, (status.message or "").rpartition("; ")[2]) == (
        COMPLETED,
        "not deployed: canceled",
    )


async def test_a_named_deployment_is_changed_to_the_new_model(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore
) -> None:
    config = nemo_config(nemo, deploy_on_completion=True, deployment_config={"deployment_name": "live"})
    for name in ("job1", "job2"):
        assert (await run(make(), spec(artifacts, nemo, name, config=config))).status is COMPLETED
    assert [one["config"] for one in nemo.state.deployments.values()] == ["games/tunestream-job2"]


# -- what cannot be trained


async def test_a_dataset_that_is_missing_or_empty_is_said(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore
) -> None:
    useless = [row(1).model_copy(update={"rejected": "good 1"})]
    status = await run(make(), spec(artifacts, nemo, train=put_rows(artifacts, useless)))
    assert reason(status) == "empty_dataset"
    assert "1 identical_responses" in (status.message or "")
    gone = dataset(artifacts).model_copy(update={"uri": "artifact://objects/aa/nothing"})
    assert reason(await run(make(), spec(artifacts, nemo, "job2", train=gone))) == "artifact_missing"
    assert not nemo.state.requests or not nemo.state.jobs


async def test_episodes_are_trained_by_sft_only(make: MakeAdapter, nemo: FakeNeMo) -> None:
    said = [
        EpisodeItem(role=EpisodeItemRole.USER, content="go"),
        EpisodeItem(role=EpisodeItemRole.ASSISTANT, content="5", logprobs=0.0),
    ]
    episodes = TrajectoryCollection(trajectories=[[Trajectory(episode=said, reward=1.0)]], run_id="run")
    with pytest.raises(ValueError, match="1 wrong_kind"):
        await make().submit(episodes)
    adapter = make(objective="sft")
    assert (await end(adapter, await adapter.submit(episodes))).status is COMPLETED
    assert nemo.trained_on(nemo.job()) == [
        {"messages": [{"role": "user", "content": "go"}, {"role": "assistant", "content": "5"}]}
    ]


async def test_a_job_of_another_place_is_refused(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore
) -> None:
    other = nemo_config(nemo, namespace="elsewhere")
    with pytest.raises(ValueError, match="namespace"):
        await make().submit(NOTHING, job=spec(artifacts, nemo, config=other))
    trl = TRLTrainerConfig.model_validate({"model": {"hf_model_ckpt": "m"}})
    with pytest.raises(ValueError, match="trl"):
        await make().submit(NOTHING, job=spec(artifacts, nemo, config=trl))


async def test_a_name_that_the_data_store_cannot_take_is_said(
    make: MakeAdapter, nemo: FakeNeMo, artifacts: ArtifactStore
) -> None:
    config = nemo_config(nemo, dataset_name="no spaces")
    status = await run(make(), spec(artifacts, nemo, config=config))
    assert reason(status) == "invalid_name"


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": "grpo"},
        {"objective": "dpo", "hyperparameters": {"training_type": "sft"}},
        {"hyperparameters": {"lora": {"adapter_dim": 8}}},
        {"hyperparameters": {"sft": {"hidden_dropout": 0.1}}},
        {"hyperparameters": {"learning_rate": 0.0}},
    ],
)
def test_contradictions_are_refused(nemo: FakeNeMo, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"training_type|finetuning_type|learning_rate"):
        nemo_config(nemo, **changes)


def test_the_objective_may_be_said_at_either_place(nemo: FakeNeMo) -> None:
    by_type = nemo_config(nemo, hyperparameters={"training_type": "sft"})
    assert by_type.objective == "sft"
    assert nemo_config(nemo, objective="sft").hyperparameters.training_type == "sft"
    assert isinstance(by_type, NeMoCustomizerTrainerAdapterConfig)
