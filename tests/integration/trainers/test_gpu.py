"""On a real GPU (``make test-gpu``): an adapter for a model of half a billion weights in bf16."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.helpers.tiny_model import rows
from tests.helpers.training import job_spec
from tunestream.artifacts import ArtifactStore, put_rows
from tunestream.trainers import JobSpec
from tunestream.trainers.trl.config import TRLTrainerConfig
from tunestream.trainers.worker.handle import WorkerHandle
from tunestream.trainers.worker.protocol import Failed, Finished

pytestmark = pytest.mark.gpu


def config(model: str, **changes: Any) -> TRLTrainerConfig:
    training = {"num_train_epochs": 2, "learning_rate": 1e-4, "bf16": True, "per_device_train_batch_size": 8}
    return TRLTrainerConfig.model_validate(
        {
            "model": {"hf_model_ckpt": model, "torch_dtype": "bfloat16"},
            "training": {"training_args": training | changes, "dpo_args": {"max_length": 32768}},
        }
    )


@pytest.fixture(scope="module")
def model() -> str:
    """A folder or a name on the hub, of at least half a billion weights."""
    return os.environ.get("TUNESTREAM_TEST_GPU_MODEL", "Qwen/Qwen2.5-0.5B-Instruct")


async def last_report(worker: WorkerHandle, spec: JobSpec) -> Any:
    return [report async for report in worker.run(spec)][-1]


async def test_an_adapter_learns(trl_worker: WorkerHandle, artifacts: ArtifactStore, model: str) -> None:
    end = await last_report(trl_worker, job_spec(artifacts, config(model)))
    assert isinstance(end, Finished), end
    assert end.result.metrics["validation_reward_margin"] > 0


async def test_running_out_of_memory_leaves_a_worker_that_works(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, model: str
) -> None:
    # 128 sequences of 20,000 tokens in one step keep more than 1 TB of activations.
    long = [row.model_copy(update={"prompt": "word " * 20_000}) for row in rows(64)]
    greedy = config(model, per_device_train_batch_size=64, gradient_checkpointing=False)
    end = await last_report(trl_worker, job_spec(artifacts, greedy, train=put_rows(artifacts, long)))
    assert isinstance(end, Failed), end
    assert end.code == "out_of_memory"
    assert isinstance(await last_report(trl_worker, job_spec(artifacts, config(model))), Finished)
