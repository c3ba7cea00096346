"""Inference by an OpenAI-compatible server."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.fake_openai import FakeOpenAI, fake_openai
from tests.helpers.stages import base_model, inference_request, no_progress, start_stage
from tunestream.config.run.model import ModelConfig
from tunestream.experiments.inference import infer
from tunestream.experiments.inference.endpoint import _Patience
from tunestream.experiments.journal import read_lines
from tunestream.experiments.requests import ModelReference
from tunestream.experiments.results import ResultRow
from tunestream.experiments.stages import StageFailed

PROMPTS = [f"question {number}" for number in range(12)]


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with fake_openai() as state:
        yield state


def results(folder: Path) -> list[ResultRow]:
    return read_lines(folder / "results.jsonl", ResultRow)


def test_every_row_is_answered_in_order(server: FakeOpenAI, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    request = inference_request(tmp_path, PROMPTS, endpoint=server.url, batch_size=3, max_new_tokens=5)
    report = infer(request, progress=lambda done, total: told.append((done, total)))
    rows = results(request.output)
    assert [row.id for row in rows] == [f"r{number}" for number in range(12)]
    assert [row.predicted for row in rows] == [f"{prompt}!" for prompt in PROMPTS]
    assert report.metrics == {"rows": 12, "unanswered": 0}
    assert sorted(told) == told
    assert told[-1] == (12, 12)
    assert server.most_together <= 3
    fields = {"model": "base", "max_tokens": 5, "temperature": 0.0}
    assert all({key: body[key] for key in body if key != "messages"} == fields for body in server.asked)
    with (request.output / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert table[3] == {"Prompt": "question 3", "Ground Truth": "red", "Predicted": "question 3!"}


def test_the_seed_of_a_row_is_its_own(server: FakeOpenAI, tmp_path: Path) -> None:
    outputs = [
        inference_request(
            tmp_path,
            PROMPTS,
            endpoint=server.url,
            do_sample=True,
            batch_size=size,
            seed=seed,
            output=f"o{number}",
        )
        for number, (size, seed) in enumerate([(1, 7), (8, 7), (1, 8)])
    ]
    answers = []
    for each in outputs:
        infer(each, progress=no_progress)
        answers.append([row.predicted for row in results(each.output)])
    first, again, other = answers
    assert first == again
    assert not set(first) & set(other)
    assert len({body["seed"] for body in server.asked}) == 24


def test_the_key_is_sent_and_nowhere_written(
    server: FakeOpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = inference_request(tmp_path, ["hi"], endpoint=server.url, api_key_env="ACME_KEY")
    with pytest.raises(StageFailed, match="the environment variable ACME_KEY is not set"):
        infer(request, progress=no_progress)
    monkeypatch.setenv("ACME_KEY", "sk-very-secret")
    infer(request, progress=no_progress)
    assert server.keys == ["Bearer sk-very-secret"]
    assert not any(b"sk-very" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_passing_faults_are_asked_again(server: FakeOpenAI, tmp_path: Path) -> None:
    server.faults.extend([(503, "busy", {}), (429, "slow down", {"Retry-After": "0"}), (500, "oops", {})])
    request = inference_request(tmp_path, PROMPTS[:2], endpoint=server.url, batch_size=1)
    assert infer(request, progress=no_progress).metrics["unanswered"] == 0
    assert server.prompts() == PROMPTS[:2]


def test_a_refused_prompt_is_a_row_with_a_reason(server: FakeOpenAI, tmp_path: Path) -> None:
    server.refuses.add(PROMPTS[4])
    request = inference_request(tmp_path, PROMPTS, endpoint=server.url)
    report = infer(request, progress=no_progress)
    row = results(request.output)[4]
    assert (row.predicted, row.error) == ("", 'refused: {"error": {"message": "the prompt is too long"}}')
    assert report.notes == ["1 of 12 rows have no answer: refused"]


def test_when_all_is_refused_the_stage_fails_and_can_be_run_again(server: FakeOpenAI, tmp_path: Path) -> None:
    server.refuses.update(PROMPTS)
    request = inference_request(tmp_path, PROMPTS, endpoint=server.url, batch_size=1)
    with pytest.raises(StageFailed, match=r"none of the first 8 rows .* r0: refused: .*too long"):
        infer(request, progress=no_progress)
    assert len(server.asked) == 8
    assert not (request.output / "results.jsonl").exists()
    server.refuses.clear()
    assert infer(request, progress=no_progress).metrics["unanswered"] == 0


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "answered 401: .*api_key_env"), (404, "answered 404: .*endpoint_model"), (418, "answered 418")],
)
def test_what_asking_again_cannot_mend_ends_the_stage(
    server: FakeOpenAI, tmp_path: Path, status: int, message: str
) -> None:
    server.faults.append((status, "no", {}))
    request = inference_request(tmp_path, PROMPTS, endpoint=server.url, batch_size=1)
    with pytest.raises(StageFailed, match=message):
        infer(request, progress=no_progress)


def test_a_server_that_is_away_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunestream.experiments.inference.endpoint._PATIENCE", _Patience(retry_delay=0.0))
    request = inference_request(tmp_path, PROMPTS, endpoint="http://127.0.0.1:9/v1")
    with pytest.raises(StageFailed, match=r"inference\.endpoint: http://127\.0\.0\.1:9/v1 does not answer"):
        infer(request, progress=no_progress)


def tuned(folder: Path) -> ModelReference:
    return ModelReference(
        base=ModelConfig(hf_model_ckpt="base"),
        weights=folder / "weights",
        kind="adapter",
        name="experiment-1",
    )


def test_the_server_is_made_to_serve_the_weights_once(server: FakeOpenAI, tmp_path: Path) -> None:
    for output in ("first", "second"):
        request = inference_request(
            tmp_path, ["hi"], model=tuned(tmp_path), endpoint=server.url, output=output
        )
        infer(request, progress=no_progress)
    assert server.loaded == [{"lora_name": "experiment-1", "lora_path": str(tmp_path / "weights")}]
    assert {body["model"] for body in server.asked} == {"experiment-1"}


def test_a_server_that_cannot_load_weights_is_told_of(server: FakeOpenAI, tmp_path: Path) -> None:
    server.loads = False
    request = inference_request(tmp_path, ["hi"], model=tuned(tmp_path), endpoint=server.url)
    with pytest.raises(
        StageFailed, match=r"does not serve 'experiment-1' and cannot load it .*serve the weights"
    ):
        infer(request, progress=no_progress)


def test_the_base_is_asked_by_the_name_that_the_server_knows(server: FakeOpenAI, tmp_path: Path) -> None:
    server.models.append("theirs")
    request = inference_request(
        tmp_path, ["hi"], model=base_model("/here/base"), endpoint=server.url, endpoint_model="theirs"
    )
    infer(request, progress=no_progress)
    assert server.asked[0]["model"] == "theirs"


def test_after_kill_9_what_is_answered_is_not_asked_again(server: FakeOpenAI, tmp_path: Path) -> None:
    server.hold_after = 6
    request = inference_request(tmp_path, PROMPTS, endpoint=server.url, batch_size=2)
    process = start_stage(request)
    try:
        server.wait_for(8)  # an asker has kept its answer before it asks for the next one
    finally:
        process.kill()
        process.wait()
    assert not (request.output / "results.jsonl").exists()
    journal = request.output / "answered.jsonl"
    done = {row.prompt for row in read_lines(journal, ResultRow)}
    assert len(done) == 6
    journal.write_bytes(journal.read_bytes() + b'{"id": "r1')  # as a kill in the middle of a write leaves it

    before = len(server.asked)
    server.hold_after = None
    server.released.set()
    infer(request, progress=no_progress)
    assert sorted(server.prompts()[before:]) == sorted(set(PROMPTS) - done)
    assert [row.predicted for row in results(request.output)] == [f"{prompt}!" for prompt in PROMPTS]
    assert sorted(path.name for path in request.output.iterdir()) == ["results.csv", "results.jsonl"]

    infer(request, progress=no_progress)
    assert len(server.asked) == before + 6  # a finished stage asks nothing
