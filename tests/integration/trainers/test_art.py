"""The ART backend: what it sends, what it makes, and what becomes of everything that can go wrong."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from safetensors.numpy import load_file

from tests.helpers.art import (
    art_config,
    art_service,
    art_settings,
    art_worker,
    local_config,
    played,
)
from tests.helpers.fake_art import ENDLESS, QUICK, FakeART, event
from tests.helpers.tiny_model import said
from tunestream.artifacts import ArtifactStore, put_rows
from tunestream.events.dataset import EpisodeRow
from tunestream.events.training import TrainingJobStatus, TrainingStatusEnum
from tunestream.events.trajectories import (
    DPOItem,
    EpisodeItem,
    EpisodeItemRole,
    Trajectory,
    TrajectoryCollection,
)
from tunestream.trainers import JobSpec, TrainingFailed, TrainingResult
from tunestream.trainers.art.backend import ARTBackend, ARTTrainerAdapter
from tunestream.trainers.art.config import ARTTrainerAdapterConfig
from tunestream.trainers.art.episodes import examine, ids_as_written
from tunestream.trainers.art.worker import ARTWorkerHandle

__all__ = ["art_service", "art_worker"]

pytestmark = pytest.mark.timeout(1200)

COMPLETED, FAILED, CANCELED = (
    TrainingStatusEnum.COMPLETED,
    TrainingStatusEnum.FAILED,
    TrainingStatusEnum.CANCELED,
)
USER, TOOL = EpisodeItemRole.USER, EpisodeItemRole.TOOL
KEY = "wb-" + "k" * 40
EVENTS, CHECKPOINTS = r"GET /v1/preview/training-jobs", r"GET /v1/preview/models/model-\d+/checkpoints"
SENT = r"POST /v1/preview/training-jobs"

Adapt = Callable[..., ARTTrainerAdapter]


@pytest.fixture
def service(art_service: FakeART) -> Iterator[FakeART]:
    art_service.reset()
    yield art_service
    art_service.reset()


@pytest.fixture
def adapt(service: FakeART, art_worker: ARTWorkerHandle, artifacts: ArtifactStore) -> Adapt:
    """Make an adapter for the fake service; what is given goes into its configuration."""

    def make(training: dict[str, Any] | None = None, **backend: Any) -> ARTTrainerAdapter:
        config = art_config(service, training, **backend)
        trains = ARTBackend(config, art_settings(), worker=art_worker)
        return ARTTrainerAdapter(config, artifacts=artifacts.url, backend=trains)

    return make


@pytest.fixture
def adapt_here(
    art_worker: ARTWorkerHandle, artifacts: ArtifactStore, tiny_model: Path, tmp_path: Path
) -> Adapt:
    """Make an adapter that trains on this machine."""

    def make(training: dict[str, Any] | None = None, **backend: Any) -> ARTTrainerAdapter:
        path = backend.pop("path", tmp_path / "art")
        config = local_config(tiny_model, path, training, **backend)
        trains = ARTBackend(config, art_settings(), worker=art_worker)
        return ARTTrainerAdapter(config, artifacts=artifacts.url, backend=trains)

    return make


async def train(
    adapter: ARTTrainerAdapter, collection: TrajectoryCollection | None = None, job: JobSpec | None = None
) -> TrainingJobStatus:
    ref = await adapter.submit(collection or played(), job=job)
    return await adapter.wait_until_complete(ref)


def result_of(status: TrainingJobStatus) -> TrainingResult:
    assert status.status is COMPLETED, status
    return TrainingResult.model_validate(status.metadata)


def spec_of(store: ArtifactStore, config: ARTTrainerAdapterConfig, **changes: Any) -> JobSpec:
    rows = [
        EpisodeRow(group_id=str(group), example_id=str(group), items=one.episode, reward=one.reward)
        for group, members in enumerate(played().trajectories)
        for one in members
    ]
    values = {"run_id": "run", "job_id": f"job-{uuid4().hex}", "config": config, "artifacts": store.url}
    return JobSpec.model_validate({**values, "train": put_rows(store, rows), **changes})


async def until(holds: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(600):
        while True:
            held = holds()
            if await held if isinstance(held, Awaitable) else held:
                return
            await asyncio.sleep(0.02)


def episode(*items: EpisodeItem, reward: float = 1.0, **metadata: Any) -> Trajectory:
    return Trajectory(episode=list(items), reward=reward, metadata=metadata or None)


def asked(text: str = "a", role: EpisodeItemRole = USER, **metadata: Any) -> EpisodeItem:
    return EpisodeItem(role=role, content=text, metadata=metadata or None)


def answered(text: str = "red", token: int = 17, **metadata: Any) -> EpisodeItem:
    logprobs = {"content": [{"token": f"token_id:{token}", "logprob": -2.9}]}
    role = EpisodeItemRole.ASSISTANT
    return EpisodeItem(role=role, content=text, logprobs=logprobs, metadata=metadata or None)


# -- what the service is sent


async def test_what_is_configured_and_what_was_played_is_what_the_service_gets(
    adapt: Adapt, service: FakeART
) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    good = episode(
        asked("a", tools=tools),
        answered("", 2, tool_calls=[call]),
        asked("sunny", TOOL, tool_call_id="c1"),
        answered("red"),
        reward=0.75,
    )
    collection = TrajectoryCollection(
        trajectories=[[good, episode(asked(), answered(), reward=0.25)]], run_id="r"
    )
    training = {"learning_rate": 1e-6, "loss_fn": "ppo", "epsilon": 0.1, "scale_rewards": False}
    result = result_of(await train(adapt(training), collection))
    job = service.job()
    config = job["experimental_config"]
    assert (config["learning_rate"], config["ppo"], config["epsilon"]) == (1e-6, True, 0.1)
    assert config["scale_rewards"] is False
    sent = job["trajectory_groups"][0]["trajectories"][0]
    question, said_first, looked, said_last = sent["messages_and_choices"]
    assert (question, sent["reward"], sent["tools"]) == ({"role": "user", "content": "a"}, 0.75, tools)
    assert looked == {"role": "tool", "content": "sunny", "tool_call_id": "c1"}
    assert said_first["message"]["tool_calls"] == [call]
    assert said_last["logprobs"]["content"][0]["token"] == "token_id:17"
    assert said_last["logprobs"]["content"][0]["logprob"] == -2.9
    assert (result.rows_used, result.rows_skipped) == (2, {})
    assert result.artifact.uri == "wandb-artifact:///games/trainer_project/r:step1"
    assert (result.artifact.sha256, result.metrics["train_loss"]) == ("", 0.375)
    assert [point["loss"] for point in result.curve] == [0.5, 0.25]


async def test_a_bad_trajectory_is_left_out_alone_and_told(adapt: Adapt, service: FakeART) -> None:
    collection = played(2)
    pair = Trajectory(episode=[DPOItem(prompt="a", chosen_response="b", rejected_response="c")], reward=1.0)
    collection.trajectories[0].insert(1, episode(asked(), answered(), answered()))
    collection.trajectories[1] += [Trajectory(episode=[], reward=1.0), pair]
    collection.trajectories.append([episode(asked(), answered())] * 2)
    status = await train(adapt(), collection)
    result = result_of(status)
    assert result.rows_skipped == {
        "consecutive_assistants": 1,
        "empty_episode": 1,
        "wrong_kind": 1,
        "zero_variance": 2,
    }
    assert result.rows_used == 12
    assert "0/1 consecutive_assistants" in (status.message or "")
    groups = service.job()["trajectory_groups"]
    assert [len(group["trajectories"]) for group in groups] == [6, 6]


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([], "empty_episode"),
        ([asked("x", TOOL), answered()], "bad_start"),
        ([answered()], "bad_start"),
        ([asked(), answered(), answered()], "consecutive_assistants"),
        ([asked()], "no_logprobs"),
        ([asked(), answered().model_copy(update={"logprobs": {}})], "no_logprobs"),
        ([asked(), answered().model_copy(update={"logprobs": {"content": 3}})], "bad_logprobs"),
        ([asked(), said("red")], "no_token_ids"),
        ([asked(), answered().model_copy(update={"logprobs": [-1.0]})], "no_token_ids"),
        ([asked(), answered(tool_calls=[{"function": {"name": "f"}}])], "bad_tool_calls"),
    ],
)
def test_each_fault_of_an_episode_has_its_name(items: list[EpisodeItem], reason: str) -> None:
    good = [
        EpisodeRow(group_id="g", example_id="e", items=[asked(), answered()], reward=float(number))
        for number in range(2)
    ]
    bad = EpisodeRow(group_id="g", example_id="e", items=items, reward=0.5)
    found = examine([good[0], bad, None, good[1]], ids_as_written)
    assert found.skipped == {reason: 1, "unreadable": 1}
    assert (found.used, found.named[0]) == (2, f"g/1 {reason}")
    assert reason in found.remedies


async def test_a_collection_without_a_good_trajectory_is_refused(adapt: Adapt, service: FakeART) -> None:
    flat = TrajectoryCollection(trajectories=[[episode(asked(), answered())] * 3], run_id="run")
    with pytest.raises(ValueError, match=r"3 zero_variance.*same reward"):
        await adapt().submit(flat)
    assert not service.state.jobs


async def test_a_stored_dataset_without_a_good_row_fails_the_job(
    adapt: Adapt, artifacts: ArtifactStore
) -> None:
    adapter = adapt()
    train_file = put_rows(artifacts, [EpisodeRow(group_id="g", example_id="e", items=[asked()], reward=1.0)])
    spec = spec_of(artifacts, adapter.adapter_config, train=train_file)
    status = await train(adapter, job=spec)
    assert (status.status, status.metadata) == (FAILED, {"reason": "empty_dataset"})


async def test_old_checkpoints_are_deleted_when_asked(adapt: Adapt, service: FakeART) -> None:
    adapter = adapt(delete_old_checkpoints=True)
    for seed in range(3):
        result_of(await train(adapter, played(seed=seed)))
    assert service.state.steps["model-0"] == [2, 3]
    service.fail(r"DELETE", 400)
    status = await train(adapter, played(seed=3))
    assert status.status is COMPLETED
    assert "old checkpoints were not deleted" in (status.message or "")


# -- faults of the service


@pytest.mark.parametrize(
    ("route", "kind"),
    [
        *((EVENTS, kind) for kind in (500, 429, "reset", "lost", "slow", "malformed", "nonsense")),
        *((CHECKPOINTS, kind) for kind in (500, "lost", "malformed", "nonsense")),
    ],
)
async def test_a_question_that_fails_is_asked_again(
    adapt: Adapt, service: FakeART, route: str, kind: int | str
) -> None:
    service.fail(route, kind, times=2 if kind != "slow" else 1)
    result_of(await train(adapt()))
    assert service.asked(SENT + "$") == 1
    assert not service.state.faults


async def test_the_model_is_created_again_when_nobody_answered(adapt: Adapt, service: FakeART) -> None:
    service.fail(r"POST /v1/preview/models", "lost", times=2)
    result_of(await train(adapt()))
    assert len(service.state.models) == 1


async def test_a_job_that_the_service_did_not_take_is_sent_again(adapt: Adapt, service: FakeART) -> None:
    service.fail(SENT, 503, times=2)
    status = await train(adapt())
    assert result_of(status).metrics["step"] == 1.0
    assert "again" not in (status.message or "")
    assert len(service.state.jobs) == 1


async def test_a_job_whose_answer_was_lost_is_adopted_by_its_step(adapt: Adapt, service: FakeART) -> None:
    service.state.hasty = True
    service.fail(SENT, "lost")
    status = await train(adapt())
    assert result_of(status).metrics["step"] == 1.0
    assert "step 1 is taken for the job's" in (status.message or "")
    assert len(service.state.jobs) == 1


@pytest.mark.parametrize("kind", [500, "malformed"])
async def test_a_job_that_left_no_step_is_sent_again_and_that_is_said(
    adapt: Adapt, service: FakeART, kind: int | str
) -> None:
    service.fail(SENT, kind)
    status = await train(adapt())
    assert result_of(status).metrics["step"] == 1.0
    assert "sent again" in (status.message or "")


async def test_a_refused_job_is_not_sent_again(adapt: Adapt, service: FakeART) -> None:
    service.fail(SENT, 422)
    status = await train(adapt())
    assert (status.status, status.metadata) == (FAILED, {"reason": "service_refused"})
    assert service.asked(SENT + "$") == 1


async def test_a_failure_of_the_service_has_its_reason_and_the_next_attempt_begins_anew(
    adapt: Adapt, service: FakeART
) -> None:
    service.state.script = [*QUICK[:2], event("training_failed", error_message="no memory")]
    adapter = adapt()
    status = await train(adapter)
    assert (status.status, status.metadata) == (FAILED, {"reason": "training_failed"})
    assert "no memory" in (status.message or "")
    service.state.script = list(QUICK)
    assert result_of(await train(adapter)).metrics["step"] == 1.0
    assert len(service.state.jobs) == 2


async def test_a_job_that_vanishes_fails_unless_it_left_a_step(
    adapt: Adapt, service: FakeART, artifacts: ArtifactStore
) -> None:
    service.state.script = list(ENDLESS)
    for left_step, expected in ((False, FAILED), (True, COMPLETED)):
        adapter = adapt()
        service.state.jobs.clear()
        ref = await adapter.submit(played(), job=spec_of(artifacts, adapter.adapter_config))
        await until(lambda: any(job["told"] for job in service.state.jobs.values()))
        if left_step:
            service.advance("model-0")
        service.state.jobs.clear()
        status = await adapter.wait_until_complete(ref)
        assert status.status is expected, status
        if not left_step:
            assert status.metadata == {"reason": "job_vanished"}


async def test_a_training_that_changed_nothing_is_none(adapt: Adapt, service: FakeART) -> None:
    service.state.advances = False
    status = await train(adapt())
    assert (status.status, status.metadata) == (FAILED, {"reason": "no_step"})


async def test_a_job_of_which_nothing_is_heard_ends(adapt: Adapt, service: FakeART) -> None:
    service.state.script = QUICK[:2]
    status = await train(adapt())
    assert (status.status, status.metadata) == (FAILED, {"reason": "stalled"})


async def test_a_service_that_goes_away_loses_no_job(
    adapt: Adapt, service: FakeART, artifacts: ArtifactStore
) -> None:
    service.state.script = list(ENDLESS)
    adapter = adapt()
    spec = spec_of(artifacts, adapter.adapter_config)
    ref = await adapter.submit(played(), job=spec)
    await until(lambda: any(job["told"] > 1 for job in service.state.jobs.values()))
    service.fail(r"GET", "reset", times=10_000)
    status = await adapter.wait_until_complete(ref)
    assert (status.status, status.metadata) == (FAILED, {"reason": "service_unreachable"})
    service.state.faults.clear()
    service.finish(service.job())
    again = await train(adapt(), job=spec.model_copy(update={"attempt": 2}))
    assert result_of(again).metrics["step"] == 1.0
    assert len(service.state.jobs) == 1


async def test_a_job_that_comes_again_is_not_trained_again(
    adapt: Adapt, service: FakeART, artifacts: ArtifactStore
) -> None:
    spec = spec_of(artifacts, adapt().adapter_config)
    first = result_of(await train(adapt(), job=spec))
    second = result_of(await train(adapt(), job=spec.model_copy(update={"attempt": 2})))
    assert second == first
    assert len(service.state.jobs) == 1


async def test_a_canceled_job_says_that_the_service_goes_on_and_the_next_one_waits_for_it(
    adapt: Adapt, service: FakeART
) -> None:
    service.state.script = list(ENDLESS)
    adapter = adapt()
    ref = await adapter.submit(played())
    await until(lambda: any(job["told"] > 1 for job in service.state.jobs.values()))
    await adapter.cancel(ref)
    status = await adapter.wait_until_complete(ref)
    assert (status.status, status.metadata) == (CANCELED, {"reason": "canceled"})
    assert "may train it to its end" in (status.message or "")
    service.state.script = list(QUICK)
    told = service.job()["told"]
    ref = await adapter.submit(played(seed=1))
    await until(lambda: service.state.jobs["job-0"]["told"] > told + 2)
    assert len(service.state.jobs) == 1
    service.finish(service.state.jobs["job-0"])
    assert result_of(await adapter.wait_until_complete(ref)).metrics["step"] == 2.0


async def test_a_parent_that_is_not_the_services_latest_step_is_told(
    adapt: Adapt, artifacts: ArtifactStore
) -> None:
    adapter = adapt()
    first = result_of(await train(adapter))
    result_of(await train(adapter, played(seed=1)))
    spec = spec_of(artifacts, adapter.adapter_config, parent=first.artifact)
    status = await train(adapter, job=spec)
    assert "trained from its latest step 2" in (status.message or "")
    fitting = spec_of(artifacts, adapter.adapter_config, parent=result_of(status).artifact)
    assert "latest step" not in ((await train(adapter, job=fitting)).message or "")


# -- keys and health


async def test_the_key_goes_to_the_service_and_nowhere_else(
    adapt: Adapt, service: FakeART, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.state.token = KEY
    adapter = adapt(api_key_env="TEST_ART_KEY")
    with pytest.raises(TrainingFailed, match="TEST_ART_KEY") as missing:
        await adapter.initialize()
    assert (missing.value.code, await adapter.is_healthy()) == ("token_missing", False)
    monkeypatch.setenv("TEST_ART_KEY", "wrong-key-of-somebody")
    with pytest.raises(TrainingFailed, match="api_key_env") as refused:
        await adapter.initialize()
    assert (refused.value.code, await adapter.is_healthy()) == ("unauthorized", False)
    assert "wrong-key" not in refused.value.message
    monkeypatch.setenv("TEST_ART_KEY", KEY)
    assert await adapter.is_healthy()
    assert not service.state.models


@pytest.mark.parametrize("kind", [500, "reset", "slow"])
async def test_a_sick_service_is_not_healthy(adapt: Adapt, service: FakeART, kind: int | str) -> None:
    adapter = adapt()
    adapter.backend._settings = art_settings(request_timeout=0.2, attempts=2)
    service.fail(r"GET", kind, times=2)
    assert not await adapter.is_healthy()
    service.state.faults.clear()
    assert await adapt().is_healthy()


# -- on this machine


async def test_it_learns_on_a_cpu_and_goes_on_from_its_last_version(
    adapt_here: Adapt, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    adapter = adapt_here({"epsilon": 0.9, "epsilon_high": 10.0})
    first, second = [result_of(await train(adapter, played(12))) for _ in range(2)]
    assert second.metrics["train_loss"] < first.metrics["train_loss"] - 0.1
    assert first.metrics["grad_norm"] > 0
    assert (first.metrics["step"], second.metrics["step"]) == (1.0, 2.0)
    folder = artifacts.fetch_directory(second.artifact.uri, second.artifact.sha256, tmp_path / "weights")
    weights = load_file(folder / "adapter_model.safetensors")
    assert any(name.endswith("lora_B.weight") and value.any() for name, value in weights.items())
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 8
    assert first.artifact != second.artifact


async def test_tokens_by_their_text_are_found_by_the_models_tokenizer(adapt_here: Adapt) -> None:
    good = [episode(asked(), said(word), reward=float(n)) for n, word in enumerate(["red", "blue"])]
    other = episode(asked(), said("red").model_copy(update={"content": "blue"}), reward=0.5)
    collection = TrajectoryCollection(trajectories=[[*good, other]], run_id="run")
    result = result_of(await train(adapt_here({"beta": 0.1}), collection))
    assert (result.rows_used, result.rows_skipped) == (2, {"logprobs_mismatch": 1})


async def test_a_parent_that_this_machine_lacks_is_fetched(
    adapt_here: Adapt, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    first = result_of(await train(adapt_here()))
    elsewhere = adapt_here(path=tmp_path / "elsewhere")
    spec = spec_of(artifacts, elsewhere.adapter_config, parent=first.artifact)
    status = await train(elsewhere, job=spec)
    assert result_of(status).metrics["step"] == 2.0
    assert "its parent was fetched as step 1" in (status.message or "")


@pytest.mark.parametrize("whole", [True, False])
async def test_what_a_killed_attempt_left_is_used_if_it_is_whole(
    adapt_here: Adapt, artifacts: ArtifactStore, tmp_path: Path, whole: bool
) -> None:
    adapter = adapt_here()
    first = result_of(await train(adapter))
    (trace,) = (artifacts.files.read(f"art/{model}/{name}") for model, name in _traces(artifacts))
    spec = spec_of(artifacts, adapter.adapter_config)
    begun = json.loads(trace) | {"job_id": spec.job_id, "result": None}
    (model, _), *_ = _traces(artifacts)
    artifacts.files.write(f"art/{model}/{spec.job_id}.json", json.dumps(begun).encode())
    if not whole:
        (weights,) = (tmp_path / "art").rglob("adapter_model.safetensors")
        weights.write_bytes(weights.read_bytes()[:100])
    status = await train(adapter, job=spec.model_copy(update={"attempt": 2}))
    assert result_of(status).metrics["step"] == 1.0
    assert ("is taken for the job's" in (status.message or "")) is whole
    assert result_of(status).artifact == first.artifact


def _traces(artifacts: ArtifactStore) -> list[tuple[str, str]]:
    files = artifacts.files
    return [(model, name) for model in files.children("art") for name in files.children(f"art/{model}")]


@pytest.mark.parametrize(
    ("backend", "training", "reason"),
    [
        ({"base_model": "/nowhere/model"}, {}, "model_missing"),
        ({"init_args": None}, {}, "missing_dependency"),
        ({}, {"packed_sequence_length": 2}, "empty_dataset"),
    ],
)
async def test_what_cannot_be_trained_here_has_its_reason(
    adapt_here: Adapt, backend: dict[str, Any], training: dict[str, Any], reason: str
) -> None:
    status = await train(adapt_here(training, **backend))
    assert (status.status, status.metadata) == (FAILED, {"reason": reason}), status


# -- the worker


async def test_a_killed_worker_is_replaced_and_the_services_job_watched_on(
    adapt: Adapt, service: FakeART, art_worker: ARTWorkerHandle
) -> None:
    service.state.script = list(ENDLESS)
    adapter = adapt()
    ref = await adapter.submit(played())
    await until(lambda: any(job["told"] > 1 for job in service.state.jobs.values()))
    pid = art_worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    service.finish(service.job())
    status = await adapter.wait_until_complete(ref)
    assert result_of(status).metrics["step"] == 1.0
    assert len(service.state.jobs) == 1
    assert art_worker.pid != pid
