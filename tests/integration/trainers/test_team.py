"""Several processes that train one job together, launched by accelerate, on a CPU."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers.team_runner import ENDLESS, REFUSED
from tests.helpers.training import (
    failure_of,
    job_spec,
    largest_difference,
    log_of,
    make_config,
    result_of,
    run,
    weights,
)
from tunestream.artifacts import ArtifactStore
from tunestream.trainers import TrainingFailed
from tunestream.trainers.trl.worker import TRLWorkerHandle
from tunestream.trainers.worker.handle import Program, WorkerDied, WorkerHandle
from tunestream.trainers.worker.launching import launcher_arguments
from tunestream.trainers.worker.protocol import Canceled, Finished, Progress
from tunestream.trainers.worker.settings import WorkerSettings

pytestmark = pytest.mark.timeout(900)

CONFIG = """
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_CPU
mixed_precision: 'no'
num_machines: 1
num_processes: 2
use_cpu: true
"""
LIGHT = Program(extra="trl", runner="tests.helpers.team_runner", by_accelerate=True)
TOLERANCE = 1e-4  # of weights: sums are formed in another order


@pytest.fixture
def accelerate_config(tmp_path: Path) -> Path:
    file = tmp_path / "accelerate.yaml"
    file.write_text(CONFIG)
    return file


@pytest.fixture
async def light_team(accelerate_config: Path) -> AsyncIterator[WorkerHandle]:
    settings = WorkerSettings(accelerate_config=accelerate_config, start_timeout=600)
    handle = WorkerHandle(settings, program=LIGHT)
    yield handle
    await handle.close()


@pytest.fixture
async def team(accelerate_config: Path) -> AsyncIterator[WorkerHandle]:
    handle = TRLWorkerHandle(WorkerSettings(accelerate_config=accelerate_config, start_timeout=600))
    yield handle
    await handle.close()


def family(handle: WorkerHandle) -> list[psutil.Process]:
    """Return the launcher and the processes that it started."""
    assert handle.pid is not None
    launcher = psutil.Process(handle.pid)
    return [launcher, *launcher.children(recursive=True)]


async def all_gone(processes: list[psutil.Process]) -> None:
    await asyncio.to_thread(psutil.wait_procs, processes, timeout=180)
    assert not [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


async def test_a_team_has_one_voice_and_dies_together(
    light_team: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
) -> None:
    plain = job_spec(artifacts, make_config(tiny_model))
    result = await result_of(light_team, plain)
    assert (result.metrics["sum"], result.message) == (3.0, "the leader's words")
    assert len(family(light_team)) == 3

    endless = plain.model_copy(update={"run_id": ENDLESS, "job_id": "canceled"})
    async for report in light_team.run(endless):
        if isinstance(report, Progress) and report.step:
            await light_team.cancel(endless.job_id)
    assert isinstance(report, Canceled)
    assert (await result_of(light_team, plain)).metrics["sum"] == 3.0, "the team is warm, and in step"

    processes = family(light_team)
    follower = processes[-1]
    killed = plain.model_copy(update={"run_id": ENDLESS, "job_id": "killed"})
    with pytest.raises(WorkerDied):  # noqa: PT012 - the generator raises
        async for report in light_team.run(killed):
            if isinstance(report, Progress) and report.step and follower.is_running():
                os.kill(follower.pid, signal.SIGKILL)
    assert log_of(artifacts, killed)[-1].startswith("broken off: ")
    await all_gone(processes)


@pytest.mark.soak
async def test_what_fails_in_one_process_fails_the_job(
    light_team: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
) -> None:
    refused = job_spec(artifacts, make_config(tiny_model), run_id=REFUSED)
    await light_team.start()
    processes = family(light_team)
    failure = await failure_of(light_team, refused)
    assert (failure.code, failure.message) == ("refused", "the second process fails alone")
    await all_gone(processes)

    async def stop() -> None:
        async for report in light_team.run(refused.model_copy(update={"run_id": ENDLESS})):
            if isinstance(report, Progress) and report.step:
                processes[:] = family(light_team)
                for one in processes[1:]:
                    one.suspend()
                await light_team.kill()

    with pytest.raises(WorkerDied):
        await stop()
    await all_gone(processes)


@pytest.mark.soak
@pytest.mark.parametrize("full", [False, True], ids=["lora", "full"])
async def test_two_processes_train_what_one_does(
    team: WorkerHandle,
    trl_worker: WorkerHandle,
    artifacts: ArtifactStore,
    tiny_model: Path,
    tmp_path: Path,
    full: bool,
) -> None:
    """The same global batch: 2 x 8 rows and 1 x 16; LoRA and all weights, canceled and resumed."""
    lora: dict[str, Any] | None = None if full else {}
    alone = await result_of(trl_worker, job_spec(artifacts, make_config(tiny_model, lora=lora)))
    config = make_config(tiny_model, lora=lora, per_device_train_batch_size=8, save_steps=5)
    together = await result_of(team, job_spec(artifacts, config))
    assert together.metrics["steps"] == alone.metrics["steps"] == 16
    assert together.metrics["validation_accuracy_after"] == alone.metrics["validation_accuracy_after"]
    expected = weights(artifacts, alone.artifact, tmp_path / "alone")
    assert largest_difference(expected, weights(artifacts, together.artifact, tmp_path / "two")) < TOLERANCE

    long = make_config(
        tiny_model, lora=lora, per_device_train_batch_size=8, save_steps=5, num_train_epochs=30
    )
    undisturbed = await result_of(team, job_spec(artifacts, long))
    spec = job_spec(artifacts, long)
    async for report in team.run(spec):
        if isinstance(report, Progress) and report.checkpoint:
            await team.cancel(spec.job_id)
    assert isinstance(report, Canceled)
    progress, end = await run(team, spec.model_copy(update={"attempt": 2}))
    assert isinstance(end, Finished), end
    assert next(report.step for report in progress if report.phase == "training") >= 5
    assert end.result.artifact == undisturbed.artifact, "bit for bit"


def test_a_configuration_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    file = tmp_path / "accelerate.yaml"
    for content, problem in (
        ("[", "cannot be read"),
        ("text", "no mapping"),
        ("distributed_type: FSDP", "FSDP is none of NO, MULTI_CPU, MULTI_GPU"),
        ("num_machines: 2", "num_machines must be 1"),
        ("num_processes: -1", "num_processes must be"),
    ):
        file.write_text(content)
        with pytest.raises(TrainingFailed, match=problem) as failure:
            launcher_arguments(file)
        assert "TUNESTREAM_WORKER_ACCELERATE_CONFIG" in failure.value.message
    with pytest.raises(TrainingFailed, match="No such file"):
        launcher_arguments(tmp_path / "nowhere")


def test_a_configuration_for_gpus_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "accelerate.yaml"
    file.write_text("distributed_type: MULTI_GPU\nnum_processes: 4\nmain_process_port: 4711\n")
    assert launcher_arguments(file) == [
        *("-m", "accelerate.commands.launch"),
        *("--config_file", str(file), "--module"),
    ]
