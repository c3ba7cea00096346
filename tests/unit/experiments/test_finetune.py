"""The second stage over a backend that does as it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.scripted_backend import Script, ScriptedBackend, fails, finishes
from tests.helpers.tiny_model import rows
from tunestream.artifacts import ArtifactStore
from tunestream.experiments.finetune import FinetuneRequest, Trained, train_here
from tunestream.experiments.stages import StageFailed
from tunestream.trainers import JobSpec, Progress, Report, Retry, TrainingFailed, TrainingResult
from tunestream.trainers.trl.config import TRLTrainerConfig

PROMPT = Retry(max_attempts=3, delay=0.0)


@pytest.fixture
def request_of(tmp_path: Path) -> FinetuneRequest:
    train, validation = tmp_path / "train.jsonl", tmp_path / "validation.jsonl"
    train.write_bytes(b"".join(row.to_json() + b"\n" for row in rows(4)))
    validation.touch()
    trainer = TRLTrainerConfig.model_validate({"model": {"hf_model_ckpt": "a"}})
    return FinetuneRequest("key", trainer, train, validation, tmp_path)


async def train(request: FinetuneRequest, backend: ScriptedBackend, seen: list[tuple[int, int]]) -> Trained:
    store = ArtifactStore(str(request.output / "artifacts"))
    return await train_here(request, store, backend, lambda *done: seen.append(done), PROMPT)


async def test_progress_and_result_are_those_of_the_backend(request_of: FinetuneRequest) -> None:
    async def script(spec: JobSpec, report: Report) -> TrainingResult:
        report(Progress(step=2, total=8, phase="training"))
        return await finishes()(spec, report)

    seen: list[tuple[int, int]] = []
    backend = ScriptedBackend(script)
    trained = await train(request_of, backend, seen)
    assert (trained.artifact.uri, trained.details) == ("weights/a", {"rows_used": 1, "rows_skipped": {}})
    assert seen == [(2, 8)]
    (spec,) = backend.specs
    assert spec.train is not None
    assert (spec.train.rows, spec.validation) == (4, None)


async def test_attempts_count_on_over_calls(request_of: FinetuneRequest) -> None:
    backend = ScriptedBackend(fails("worker_died", then=finishes()))
    await train(request_of, backend, [])
    await train(request_of, backend, [])
    assert [spec.attempt for spec in backend.specs] == [1, 2, 3]
    assert len({spec.job_id for spec in backend.specs}) == 1


@pytest.mark.parametrize(
    ("script", "attempts", "message"),
    [
        (fails(*["worker_died"] * 3, then=finishes()), 3, "as scripted"),
        (fails("out_of_memory", then=finishes()), 1, "as scripted"),
    ],
)
async def test_a_stage_fails_with_the_codes_of_the_backend(
    request_of: FinetuneRequest, script: Script, attempts: int, message: str
) -> None:
    backend = ScriptedBackend(script)
    with pytest.raises(StageFailed, match=message):
        await train(request_of, backend, [])
    assert len(backend.specs) == attempts


async def test_an_experiments_keys_have_no_prefix(request_of: FinetuneRequest) -> None:
    async def script(_spec: JobSpec, _report: Report) -> TrainingResult:
        raise TrainingFailed("model_missing", "there is no folder", key="model.hf_model_ckpt")

    with pytest.raises(StageFailed) as caught:
        await train(request_of, ScriptedBackend(script), [])
    assert caught.value.message == "model.hf_model_ckpt: there is no folder"
    assert caught.value.code == "model_missing"
