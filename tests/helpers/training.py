"""Fixtures of everything that trains: one warm worker for the whole session."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import pytest_asyncio
from safetensors.numpy import load_file

from tests.helpers.tiny_model import rows, write_tiny_model
from tunestream.artifacts import ArtifactStore, LogStore, put_rows
from tunestream.config.run.training import TrainingConfig
from tunestream.events.models import Artifact
from tunestream.events.training import Objective
from tunestream.trainers import JobSpec, TrainingFailed, TrainingResult
from tunestream.trainers.trl.config import TRLTrainerConfig
from tunestream.trainers.trl.worker import TRLWorkerHandle
from tunestream.trainers.worker.handle import WorkerHandle
from tunestream.trainers.worker.protocol import Failed, Finished, Progress, Terminal

__all__ = [
    "artifacts",
    "failure_of",
    "job_spec",
    "largest_difference",
    "log_of",
    "make_config",
    "result_of",
    "run",
    "run_and_send",
    "tiny_model",
    "trl_worker",
    "weights",
]

_WORKER = TRLWorkerHandle()  # shared by all modules that import the fixture


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def trl_worker() -> AsyncIterator[WorkerHandle]:
    await _WORKER.start()
    yield _WORKER
    await _WORKER.close()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "artifacts"))


def make_config(
    model: Path | str,
    *,
    objective: Objective = Objective.DPO,
    lora: dict[str, Any] | None = {},  # noqa: B006
    **changes: Any,
) -> TRLTrainerConfig:
    """A configuration that learns the tiny task in 16 steps of 64 rows; ``lora`` None trains all weights.

    ``changes`` are training arguments or those of the objective; ``model_options`` are of the model.
    """
    training = {
        "num_train_epochs": 4,
        "per_device_train_batch_size": 16,
        "learning_rate": 2e-2,
        "max_grad_norm": 1.0,
        "save_steps": 500,
    }
    own: dict[str, Any] = {"max_seq_length" if objective is Objective.SFT else "max_length": 32}
    if objective in {Objective.DPO, Objective.KTO}:
        own["beta"] = 0.5
    section = f"{objective}_args"
    names = type(getattr(TrainingConfig(), section)).model_fields
    options = changes.pop("model_options", {})
    for name, value in changes.items():
        (own if name in names else training)[name] = value
    return TRLTrainerConfig.model_validate(
        {
            "objective": objective,
            "model": {"hf_model_ckpt": str(model), **options},
            "lora": lora,
            "training": {"training_args": training, section: own},
        }
    )


def job_spec(store: ArtifactStore, config: TRLTrainerConfig, **changes: Any) -> JobSpec:
    """A job on 64 rows of the tiny task with 32 held-out ones."""
    values: dict[str, Any] = {
        "run_id": "run",
        "job_id": f"job-{uuid4().hex}",
        "config": config,
        "artifacts": store.url,
        "train": put_rows(store, rows(64)),
        "validation": put_rows(store, rows(32, seed=1)),
    }
    return JobSpec(**{**values, **changes})


async def run(worker: WorkerHandle, spec: JobSpec) -> tuple[list[Progress], Terminal]:
    reports = [report async for report in worker.run(spec)]
    *progress, end = reports
    assert all(isinstance(report, Progress) for report in progress)
    assert isinstance(end, Terminal)
    return progress, end  # type: ignore[return-value]


async def result_of(worker: WorkerHandle, spec: JobSpec) -> TrainingResult:
    _, end = await run(worker, spec)
    assert isinstance(end, Finished), end
    return end.result


async def failure_of(worker: WorkerHandle, spec: JobSpec) -> TrainingFailed:
    _, end = await run(worker, spec)
    assert isinstance(end, Failed), end
    return end.failure


async def run_and_send(
    worker: WorkerHandle, spec: JobSpec, number: signal.Signals, when: Callable[[Progress], bool]
) -> None:
    """Run a job and send the worker a signal once, at the first progress for which ``when`` holds."""
    sent = False
    async for report in worker.run(spec):
        if isinstance(report, Progress) and when(report) and not sent:
            assert 0 <= report.step < report.total
            assert worker.pid is not None
            os.kill(worker.pid, number)
            sent = True


def log_of(store: ArtifactStore, spec: JobSpec) -> list[str]:
    """Return the lines of an attempt's log."""
    return [line.text for line in LogStore(store, spec.job_id).read(spec.attempt)]


def weights(store: ArtifactStore, artifact: Artifact, folder: Path) -> dict[str, np.ndarray]:
    fetched = store.fetch_directory(artifact.uri, artifact.sha256, folder / artifact.sha256)
    name = "adapter_model.safetensors" if artifact.kind == "adapter" else "model.safetensors"
    return load_file(fetched / name)


def largest_difference(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> float:
    assert first.keys() == second.keys()
    return max(float(np.abs(first[name] - second[name]).max()) for name in first)
