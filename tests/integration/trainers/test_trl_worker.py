"""Real training of a tiny model in a real worker process."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.tiny_model import rows, write_tiny_model
from tests.helpers.training import (
    failure_of,
    job_spec,
    largest_difference,
    log_of,
    make_config,
    result_of,
    run,
    run_and_send,
    weights,
)
from tunestream.artifacts import ArtifactStore, put_rows, rows_to_jsonl
from tunestream.events.messages import OpenAIMessage
from tunestream.events.training import DatasetFile
from tunestream.trainers import is_infrastructure
from tunestream.trainers.worker.handle import WorkerDied, WorkerHandle
from tunestream.trainers.worker.protocol import Canceled, Finished, Progress
from tunestream.trainers.worker.settings import WorkerSettings


@pytest.mark.parametrize("lora", [{}, None], ids=["lora", "full"])
async def test_training_raises_the_held_out_accuracy(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path, lora: dict[str, Any] | None
) -> None:
    progress, end = await run(trl_worker, job_spec(artifacts, make_config(tiny_model, lora=lora)))
    assert isinstance(end, Finished), end
    metrics = end.result.metrics
    assert metrics["validation_accuracy_before"] < 0.8
    assert metrics["validation_accuracy_after"] > 0.95
    assert metrics["validation_reward_accuracy"] > 0.95
    assert metrics["validation_margin_after"] > metrics["validation_margin_before"]
    assert (metrics["steps"], metrics["validation_rows"], end.result.rows_used) == (16, 32, 64)
    assert end.result.rows_skipped == {}
    assert (progress[0].phase, progress[0].step) == ("loading", 0)
    last = progress[-1]
    assert (last.step, last.total, last.percent) == (16, 16, 100.0)
    assert last.metrics.keys() >= {"loss", "reward_accuracy", "reward_margin"}
    steps = [report.step for report in progress]
    assert steps == sorted(steps)


@pytest.mark.parametrize("lora", [{}, None], ids=["lora", "full"])
async def test_a_version_is_trained_further(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path, lora: dict[str, Any] | None
) -> None:
    config = make_config(tiny_model, lora=lora)
    first = await result_of(trl_worker, job_spec(artifacts, config))
    second = await result_of(trl_worker, job_spec(artifacts, config, parent=first.artifact))
    before, after = first.metrics, second.metrics
    assert after["validation_accuracy_before"] == before["validation_accuracy_after"]
    assert after["validation_margin_before"] == pytest.approx(before["validation_margin_after"], rel=1e-4)
    assert after["validation_margin_after"] > after["validation_margin_before"]


async def test_a_version_holds_weights_and_json_only(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path, tmp_path: Path
) -> None:
    adapter = await result_of(trl_worker, job_spec(artifacts, make_config(tiny_model)))
    full = await result_of(trl_worker, job_spec(artifacts, make_config(tiny_model, lora=None)))
    for result, kind in ((adapter, "adapter"), (full, "full")):
        assert result.artifact.kind == kind
        target = tmp_path / kind
        artifacts.fetch_directory(result.artifact.uri, result.artifact.sha256, target)
        suffixes = {path.suffix for path in target.rglob("*") if path.is_file()}
        assert suffixes <= {".safetensors", ".json", ".jinja"}
    assert str(tiny_model) in (tmp_path / "adapter" / "adapter_config.json").read_text()


async def test_the_same_job_makes_the_same_version(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
) -> None:
    config = make_config(tiny_model)
    first = await result_of(trl_worker, job_spec(artifacts, config))
    again = await result_of(trl_worker, job_spec(artifacts, config))
    assert first.artifact == again.artifact


@pytest.mark.soak
async def test_a_killed_worker_resumes_to_the_same_weights(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path, tmp_path: Path
) -> None:
    config = make_config(tiny_model, num_train_epochs=30, save_steps=5)
    undisturbed = await result_of(trl_worker, job_spec(artifacts, config))

    spec = job_spec(artifacts, config)
    with pytest.raises(WorkerDied, match="signal 9"):
        await run_and_send(trl_worker, spec, signal.SIGKILL, when=lambda report: report.checkpoint > 0)
    told = log_of(artifacts, spec)
    assert told[0].startswith("attempt 1 goes to worker")
    assert any("checkpoint of step" in line for line in told)
    assert told[-1].startswith("broken off: the worker was killed by signal 9")

    progress, end = await run(trl_worker, spec.model_copy(update={"attempt": 2}))
    assert isinstance(end, Finished), end
    assert next(report.step for report in progress if report.phase == "training") >= 5
    assert end.result.metrics["steps"] == 120
    resumed = weights(artifacts, end.result.artifact, tmp_path / "resumed")
    assert largest_difference(resumed, weights(artifacts, undisturbed.artifact, tmp_path / "whole")) == 0.0


async def test_all_weights_resume_to_the_same_weights(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path, tmp_path: Path
) -> None:
    config = make_config(tiny_model, lora=None, num_train_epochs=30, save_steps=5)
    undisturbed = await result_of(trl_worker, job_spec(artifacts, config))

    spec = job_spec(artifacts, config)
    async for report in trl_worker.run(spec):
        if isinstance(report, Progress) and report.checkpoint:
            await trl_worker.cancel(spec.job_id)
    assert isinstance(report, Canceled)

    for attempt in (2, 3):  # the third finds the last step's checkpoint, and nothing left to train
        again = await result_of(trl_worker, spec.model_copy(update={"attempt": attempt}))
        resumed = weights(artifacts, again.artifact, tmp_path / str(attempt))
        assert (
            largest_difference(resumed, weights(artifacts, undisturbed.artifact, tmp_path / f"w{attempt}"))
            == 0.0
        )
        assert again.metrics["steps"] == 120


async def test_a_damaged_checkpoint_is_passed_over(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
) -> None:
    config = make_config(tiny_model, save_steps=5)
    spec = job_spec(artifacts, config)
    first = await result_of(trl_worker, spec)
    (step,) = artifacts.files.children(f"checkpoints/{spec.job_id}/1")
    artifacts.files.write(f"checkpoints/{spec.job_id}/1/{step}/optimizer.pt", b"damaged")
    again = await result_of(trl_worker, spec.model_copy(update={"attempt": 2}))
    assert again.artifact == first.artifact


async def test_one_unusable_row_of_each_kind_is_left_out_and_named(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
) -> None:
    good = rows(64)
    bad = [
        good[0].model_copy(update={"prompt": "  "}),
        good[0].model_copy(update={"prompt": [OpenAIMessage(role="user", content="")]}),
        good[0].model_copy(update={"prompt": " ".join("0123" * 20)}),
        good[0].model_copy(update={"rejected": good[0].chosen}),
    ]
    content = rows_to_jsonl([*good[:32], *bad, *good[32:]]) + b'{"group_id": 5}\nnot json\n'
    stored = artifacts.put_bytes(content)
    train = DatasetFile(uri=stored.uri, sha256=stored.sha256, rows=70, size=stored.size)
    result = await result_of(trl_worker, job_spec(artifacts, make_config(tiny_model), train=train))
    assert result.rows_used == 64
    assert result.rows_skipped == {
        "empty_prompt": 2,
        "too_long": 1,
        "identical_responses": 1,
        "unreadable": 2,
    }
    assert "64 rows" in result.message
    assert "1 too_long" in result.message
    clean = await result_of(trl_worker, job_spec(artifacts, make_config(tiny_model)))
    assert clean.artifact == result.artifact


async def test_plain_text_models_take_text_prompts(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    model = write_tiny_model(tmp_path / "plain", chat=False)
    messages = rows(1)[0].model_copy(update={"prompt": [OpenAIMessage(role="user", content="a")]})
    padded = [
        row.model_copy(update={"chosen": f" {row.chosen} ", "rejected": f" {row.rejected} "})
        for row in rows(64)
    ]
    train = put_rows(artifacts, [*padded, messages])
    config = make_config(model, num_train_epochs=1)
    result = await result_of(trl_worker, job_spec(artifacts, config, train=train))
    assert (result.rows_used, result.rows_skipped) == (64, {"no_chat_template": 1})


@pytest.mark.parametrize("bits", [{}, {"load_in_8bit": True}], ids=["nf4", "int8"])
async def test_a_quantised_model_trains_an_adapter(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path, bits: dict[str, Any]
) -> None:
    config = make_config(tiny_model, model_options={"quantize": True, "bitsandbytes": bits})
    result = await result_of(trl_worker, job_spec(artifacts, config))
    assert result.metrics["validation_accuracy_after"] > result.metrics["validation_accuracy_before"]


async def test_what_this_machine_lacks_is_said_not_fatal(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
) -> None:
    model = {"attn_implementation": "flash_attention_2", "torch_dtype": "float16"}
    config = make_config(
        tiny_model, model_options=model, num_train_epochs=1, tf32=True, optim="paged_adamw_32bit"
    )
    result = await result_of(trl_worker, job_spec(artifacts, config))
    assert "tf32 needs a GPU" in result.message
    assert "optim paged_adamw_32bit needs a GPU: adamw_torch was used" in result.message
    assert "attn_implementation flash_attention_2 needs a GPU: sdpa was used" in result.message
    assert "torch_dtype float16 needs a GPU: float32 was used" in result.message


async def test_half_precision_trains_on_a_cpu(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
) -> None:
    result = await result_of(trl_worker, job_spec(artifacts, make_config(tiny_model, bf16=True)))
    assert result.metrics["validation_accuracy_after"] > 0.95
    assert result.message == "trained on 64 rows"


@pytest.mark.parametrize(("name", "value"), [("optim", "adam_of_tomorrow"), ("lr_scheduler_type", "zigzag")])
async def test_a_setting_that_means_nothing_is_named(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path, name: str, value: str
) -> None:
    changes: dict[str, Any] = {name: value}
    spec = job_spec(artifacts, make_config(tiny_model, **changes))
    failure = await failure_of(trl_worker, spec)
    assert failure.code == "bad_arguments"
    assert "trainer.training.training_args" in failure.message
    assert value in failure.message


async def test_a_missing_model_path_is_named(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    secret = f"hf_{'s3cret' * 5}"
    spec = job_spec(artifacts, make_config(tmp_path / "nowhere" / secret))
    failure = await failure_of(trl_worker, spec)
    assert failure.code == "model_missing"
    assert str(tmp_path / "nowhere") in failure.message
    assert "trainer.model.hf_model_ckpt" in failure.message
    told = log_of(artifacts, spec)[-1]
    assert "model_missing" in told
    assert secret not in told


async def test_a_folder_without_a_model_is_named(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    failure = await failure_of(trl_worker, job_spec(artifacts, make_config(tmp_path)))
    assert failure.code == "model_unusable"
    assert str(tmp_path) in failure.message


async def test_running_out_of_memory_says_what_to_lower(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
) -> None:
    config = make_config(tiny_model, lora={"r": 10**12})  # 128 TB a matrix: no machine has the addresses
    spec = job_spec(artifacts, config)
    failure = await failure_of(trl_worker, spec)
    told = log_of(artifacts, spec)
    assert "Traceback (most recent call last):" in told
    assert told[-1] == f"failed as out_of_memory: {failure.message}"
    assert failure.code == "out_of_memory"
    assert "per_device_train_batch_size (now 16)" in failure.message
    assert "lora.r (now 1000000000000)" in failure.message


async def test_a_dataset_without_usable_rows_is_counted(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
) -> None:
    empty = [row.model_copy(update={"prompt": ""}) for row in rows(3)]
    spec = job_spec(artifacts, make_config(tiny_model), train=put_rows(artifacts, empty))
    failure = await failure_of(trl_worker, spec)
    assert failure.code == "empty_dataset"
    assert "3 empty_prompt" in failure.message
    nothing = job_spec(artifacts, make_config(tiny_model), train=put_rows(artifacts, []))
    assert (await failure_of(trl_worker, nothing)).code == "empty_dataset"


async def test_a_loss_that_is_no_number_ends_the_job(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
) -> None:
    config = make_config(tiny_model, lora=None, learning_rate=1e38, max_grad_norm=0.0)
    failure = await failure_of(trl_worker, job_spec(artifacts, config))
    assert failure.code == "nan_loss"
    assert "learning_rate" in failure.message


async def test_a_damaged_dataset_is_refused(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
) -> None:
    spec = job_spec(artifacts, make_config(tiny_model))
    assert spec.train is not None
    artifacts.files.write(spec.train.uri.removeprefix("artifact://"), b"{}")
    failure = await failure_of(trl_worker, spec)
    assert failure.code == "artifact_corrupt"
    assert spec.train.sha256 in failure.message


async def test_a_missing_dataset_names_the_store(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path, tmp_path: Path
) -> None:
    spec = job_spec(artifacts, make_config(tiny_model), artifacts=str(tmp_path / "another"))
    failure = await failure_of(trl_worker, spec)
    assert failure.code == "artifact_missing"
    assert "TUNESTREAM_ARTIFACTS" in failure.message


async def test_a_store_that_is_away_is_not_the_users_fault(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path, tmp_path: Path
) -> None:
    away = tmp_path / "no folder"
    away.touch()
    spec = job_spec(artifacts, make_config(tiny_model), artifacts=str(away / "store"))
    failure = await failure_of(trl_worker, spec)
    assert failure.code == "store_unreachable"
    assert is_infrastructure(failure.code)
    assert str(away) in failure.message


@pytest.mark.parametrize("changed", [{"r": 4}, {"lora_alpha": 2}, None], ids=["r", "alpha", "full"])
async def test_a_parent_of_another_shape_is_refused(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path, changed: dict[str, Any] | None
) -> None:
    config = make_config(tiny_model, num_train_epochs=1)
    parent = await result_of(trl_worker, job_spec(artifacts, config))
    other = make_config(tiny_model, lora=changed)
    failure = await failure_of(trl_worker, job_spec(artifacts, other, parent=parent.artifact))
    assert failure.code == "parent_mismatch"
    assert "lora" in failure.message


async def test_a_canceled_job_stops_and_the_worker_goes_on(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
) -> None:
    spec = job_spec(artifacts, make_config(tiny_model, num_train_epochs=10_000))
    pid = trl_worker.pid
    end = None
    async for report in trl_worker.run(spec):
        end = report
        if isinstance(report, Progress) and report.step:
            await trl_worker.cancel(spec.job_id)
    assert isinstance(end, Canceled)
    await result_of(trl_worker, job_spec(artifacts, make_config(tiny_model, num_train_epochs=1)))
    assert trl_worker.pid == pid


def lives(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


async def gone(pid: int) -> None:
    """Wait until a process has ended that is not our child: nothing tells us."""
    async with asyncio.timeout(180):
        while lives(pid):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


OWNER = """
import asyncio
from tunestream.trainers.trl.worker import TRLWorkerHandle
async def own():
    worker = TRLWorkerHandle()
    starting = asyncio.create_task(worker.start())
    while worker.pid is None:
        await asyncio.sleep(0.01)
    print(worker.pid, flush=True)
    await starting
    await asyncio.Event().wait()
asyncio.run(own())
"""


async def test_a_killed_owner_takes_its_worker_along() -> None:
    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", OWNER, stdout=asyncio.subprocess.PIPE)
    assert owner.stdout is not None
    pid = int(await owner.stdout.readline())
    assert lives(pid)
    owner.kill()
    await owner.wait()
    await gone(pid)


def test_importing_the_trainer_does_not_load_torch() -> None:
    code = (
        "import sys, tunestream.trainers.trl, tunestream.trainers.worker.main, tunestream.artifacts;"
        "heavy = {'torch', 'transformers', 'trl', 'peft', 'datasets'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=180)


async def test_a_stopped_worker_is_killed_after_its_deadline(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trl_worker, "settings", WorkerSettings(silence_timeout=3.0))
    spec = job_spec(artifacts, make_config(tiny_model, num_train_epochs=10_000))
    with pytest.raises(WorkerDied, match="no sign of life for 3 s"):
        await run_and_send(trl_worker, spec, signal.SIGSTOP, when=lambda report: report.step > 0)
    assert trl_worker.pid is None
