"""Inference by transformers in a process of its own, and the embeddings of the same process."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.helpers.stages import base_model, inference_request, no_progress, qa_request
from tests.helpers.tiny_model import MODEL, write_tiny_model
from tunestream.config.run.model import ModelConfig
from tunestream.experiments.inference import infer
from tunestream.experiments.journal import read_lines
from tunestream.experiments.models import ModelWorker
from tunestream.experiments.qa import evaluate
from tunestream.experiments.requests import InferenceRequest, ModelReference
from tunestream.experiments.results import QaResult, ResultRow
from tunestream.experiments.stages import StageFailed
from tunestream.trainers.worker.settings import WorkerSettings

pytestmark = pytest.mark.timeout(1200)  # the first test waits for torch
PROMPTS = ["a 0", "b 1 2", "c", "d 3 0 1 2", "e 1", "f 0 2", "g", "h 3 3"]
TARGET = "model.layers.0.mlp.down_proj"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def adapter(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that changes what the model says."""
    folder = tmp_path_factory.mktemp("adapter")
    up, down = _low_rank()
    names = f"base_model.model.{TARGET}.lora"
    save_file({f"{names}_A.weight": down, f"{names}_B.weight": up}, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 4}
    config |= {"target_modules": ["down_proj"], "base_model_name_or_path": str(tiny)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def _low_rank() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return (rng.normal(0, 2, (MODEL.hidden, 4)).astype("f"), rng.normal(0, 2, (4, MODEL.hidden)).astype("f"))


@pytest.fixture(scope="module")
def merged(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as full weights."""
    folder = tmp_path_factory.mktemp("merged") / "weights"
    shutil.copytree(tiny, folder)
    weights = load_file(folder / "model.safetensors")
    up, down = _low_rank()
    weights[f"{TARGET}.weight"] = weights[f"{TARGET}.weight"] + up @ down
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def answers(request: InferenceRequest, worker: ModelWorker) -> list[str]:
    infer(request, progress=no_progress, worker=worker)
    return [row.predicted for row in read_lines(request.output / "results.jsonl", ResultRow)]


def test_answers_do_not_depend_on_batches_unless_they_are_drawn(
    tiny: Path, model_worker: ModelWorker, tmp_path: Path
) -> None:
    found = {
        (size, seed, sample): answers(
            inference_request(
                tmp_path, PROMPTS, model=base_model(tiny), seed=seed, output=f"{size}-{seed}-{sample}",
                batch_size=size, do_sample=sample, max_new_tokens=6,
            ),
            model_worker,
        )
        for size, seed, sample in [(1, 1, False), (8, 2, False), (3, 1, True), (3, 2, True)]
    }  # fmt: skip
    greedy, together, drawn, drawn_else = found.values()
    assert greedy == together
    assert greedy != drawn != drawn_else


def test_an_adapter_answers_as_its_merged_weights_do(
    tiny: Path, adapter: Path, merged: Path, model_worker: ModelWorker, tmp_path: Path
) -> None:
    base = ModelConfig(hf_model_ckpt=str(tiny))
    models = {
        "base": base_model(tiny),
        "adapter": ModelReference(base=base, weights=adapter, kind="adapter", name="a"),
        "full": ModelReference(base=base, weights=merged, kind="full", name="f"),
    }
    said = {
        name: answers(
            inference_request(tmp_path, PROMPTS, model=model, output=name, max_new_tokens=6), model_worker
        )
        for name, model in models.items()
    }
    assert said["adapter"] == said["full"] != said["base"]


def test_a_quantised_model_answers(
    tiny: Path, adapter: Path, model_worker: ModelWorker, tmp_path: Path
) -> None:
    base = ModelConfig(hf_model_ckpt=str(tiny), quantize=True)
    tuned = ModelReference(base=base, weights=adapter, kind="adapter", name="a")
    assert (
        len(answers(inference_request(tmp_path, PROMPTS, model=tuned, max_new_tokens=3), model_worker)) == 8
    )


def test_lengths_count_for_each_prompt_alone(tiny: Path, model_worker: ModelWorker, tmp_path: Path) -> None:
    def words(output: str, **lengths: int) -> list[int]:
        request = inference_request(tmp_path, PROMPTS, model=base_model(tiny), output=output, **lengths)
        infer(request, progress=no_progress, worker=model_worker)
        rows = read_lines(request.output / "results.jsonl", ResultRow)
        return [-1 if row.error else len(row.predicted.split()) for row in rows]

    asked = [len(prompt.split()) + 3 for prompt in PROMPTS]  # <user> … <end> <assistant>
    assert all(count <= 2 for count in words("most", max_new_tokens=2))
    with_prompt = words("with-prompt", max_length=6, min_length=6)
    assert [tokens > 5 for tokens in asked] == [count == -1 for count in with_prompt]
    assert all(count <= max(6 - tokens, -1) for tokens, count in zip(asked, with_prompt, strict=True))


def test_a_prompt_without_room_for_an_answer_is_a_row_with_a_reason(
    tiny: Path, model_worker: ModelWorker, tmp_path: Path
) -> None:
    request = inference_request(tmp_path, ["a", " ".join("b" * 80), " "], model=base_model(tiny))
    report = infer(request, progress=no_progress, worker=model_worker)
    first, long, empty = read_lines(request.output / "results.jsonl", ResultRow)
    assert first.error is None
    assert long.error == "too_long: the prompt has 83 tokens, prompt and answer may have 64"
    assert (empty.predicted, empty.error) == ("", "empty_prompt")
    assert report.details["unanswered"] == {"too_long": 1, "empty_prompt": 1}


def test_what_transformers_refuses_names_the_section(
    tiny: Path, model_worker: ModelWorker, tmp_path: Path
) -> None:
    request = inference_request(tmp_path, PROMPTS, model=base_model(tiny), bad_words_ids=[[-3]])
    with pytest.raises(StageFailed, match=r"inference cannot be used: .*bad_words_ids"):
        infer(request, progress=no_progress, worker=model_worker)


def test_models_that_cannot_be_used_are_named(tiny: Path, model_worker: ModelWorker, tmp_path: Path) -> None:
    request = inference_request(tmp_path, PROMPTS, model=base_model(tmp_path / "nowhere"))
    with pytest.raises(StageFailed, match=r"^model\.hf_model_ckpt: there is no folder"):
        infer(request, progress=no_progress, worker=model_worker)
    (tmp_path / "empty").mkdir()
    model = ModelReference(
        base=ModelConfig(hf_model_ckpt=str(tiny)), weights=tmp_path / "empty", kind="adapter", name="a"
    )
    request = inference_request(tmp_path, PROMPTS, model=model)
    with pytest.raises(StageFailed, match=r"the adapter in .*empty does not fit"):
        infer(request, progress=no_progress, worker=model_worker)


def test_embeddings_and_banks_by_the_same_process(
    tiny: Path, model_worker: ModelWorker, tmp_path: Path
) -> None:
    suite = tmp_path / "suite"
    suite.mkdir()
    (suite / "alike.csv").write_text(
        "Test Type,prompt,ground_truth,threshold\ncosine_similarity,a,red,-1\ncosine_similarity,b,red,1\n"
    )
    rows = [
        ResultRow(id=f"r{number}", prompt=f"{number}", ground_truth="red", predicted=said)
        for number, said in enumerate(["red", "blue", ""])
    ]
    request = qa_request(
        tmp_path, rows, [row.model_copy(update={"predicted": "blue"}) for row in rows],
        llm_metrics=["dot_product"], embedding_model=str(tiny), test_suite=str(suite),
        generator=base_model(tiny), inference={"max_new_tokens": 2},
    )  # fmt: skip
    told: list[tuple[int, int]] = []
    evaluate(request, progress=lambda done, total: told.append((done, total)), worker=model_worker)
    result = QaResult.model_validate_json((request.output / "metrics.json").read_bytes())
    scores = [json.loads(line) for line in (request.output / "scores.jsonl").read_text().splitlines()]
    same, other, nothing = (row["tuned"]["dot_product"] for row in scores)
    assert same > 0
    assert same != other == scores[0]["baseline"]["dot_product"]
    assert nothing == 0.0
    assert (result.tests[0].passed, result.tests[0].failed) == (1, 1)
    assert told[-1] == (5, 5)
    names = {"scores.jsonl", "metrics.json", "alike_results.csv"}
    assert {path.name for path in request.output.iterdir()} == names

    with pytest.raises(StageFailed, match=r"qa\.embedding_model: '/nowhere' is neither a folder"):
        model_worker.embed("/nowhere", ["a"])


def test_an_encoder_pools_as_its_files_say(tiny: Path, model_worker: ModelWorker, tmp_path: Path) -> None:
    """The first token of a Llama sees nothing of what follows it."""
    first_token = tmp_path / "encoder"
    shutil.copytree(tiny, first_token)
    (first_token / "1_Pooling").mkdir()
    (first_token / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    one, other = model_worker.embed(str(first_token), ["a red", "a blue 3"])
    assert one == pytest.approx(other, abs=1e-5)
    one, other = model_worker.embed(str(tiny), ["a red", "a blue 3"])
    assert one != pytest.approx(other, abs=1e-2)


@pytest.mark.soak
def test_after_kill_9_of_the_model_process_the_answers_are_the_same(tiny: Path, tmp_path: Path) -> None:
    def request(output: str) -> InferenceRequest:
        model = base_model(tiny)
        return inference_request(
            tmp_path, PROMPTS, model=model, output=output, do_sample=True, batch_size=2, max_new_tokens=6
        )

    with ModelWorker(WorkerSettings(start_timeout=900)) as worker:
        undisturbed = answers(request("undisturbed"), worker)

        def kill(done: int, total: int) -> None:
            if done == 4:
                assert worker.pid is not None
                os.kill(worker.pid, signal.SIGKILL)

        with pytest.raises(StageFailed, match="killed by signal 9"):
            infer(request("disturbed"), progress=kill, worker=worker)
        told: list[int] = []
        infer(request("disturbed"), progress=lambda done, _: told.append(done), worker=worker)
        assert told[0] == 4
        rows = read_lines(request("disturbed").output / "results.jsonl", ResultRow)
        assert [row.predicted for row in rows] == undisturbed
