"""The QA stage over real results, without models."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.fake_openai import FakeOpenAI, fake_openai
from tests.helpers.plugins import install_plugin
from tests.helpers.stages import no_progress, qa_request, start_stage
from tunestream.experiments.qa import ScoreRow, evaluate
from tunestream.experiments.requests import QaRequest
from tunestream.experiments.results import QaResult, ResultRow
from tunestream.experiments.stages import StageFailed

COUNTING = """
import pathlib, time
folder = pathlib.Path({folder!r})

def counting(*, prompt, ground_truth, predicted):
    calls = folder / "calls"
    with calls.open("a") as file:
        file.write(prompt + "\\n")
    while len(calls.read_text().splitlines()) > 5 and not (folder / "go").exists():
        time.sleep(0.01)
    return len(predicted)

def picky(*, prompt, ground_truth, predicted):
    if "1" in prompt:
        raise ValueError("not this one")
    return 1.0
"""


def answered(*predicted: str, truth: str = "red", prompts: list[str] | None = None) -> list[ResultRow]:
    return [
        ResultRow(
            id=f"r{number}", prompt=prompts[number] if prompts else f"question {number}",
            ground_truth=truth, predicted=text,
        )
        for number, text in enumerate(predicted)
    ]  # fmt: skip


def result_of(request: QaRequest) -> QaResult:
    return QaResult.model_validate_json((request.output / "metrics.json").read_bytes())


def scores_of(request: QaRequest) -> list[ScoreRow]:
    lines = (request.output / "scores.jsonl").read_bytes().splitlines()
    return [ScoreRow.model_validate_json(line) for line in lines]


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an installed package, which this process and started ones may have on their path."""
    folder = tmp_path / "site"
    folder.mkdir()
    install_plugin(folder, "acme", COUNTING.format(folder=str(tmp_path)), metrics=["counting", "picky"])
    monkeypatch.syspath_prepend(folder)
    importlib.invalidate_caches()
    yield folder
    sys.modules.pop("acme", None)


def test_tuned_beside_baseline_in_pairs(tmp_path: Path) -> None:
    tuned = answered(*["red"] * 38, "blue", "Red")
    baseline = answered(*["blue"] * 36, *["red"] * 4)
    request = qa_request(tmp_path, tuned, baseline, llm_metrics=["jaccard_similarity", "rouge_score"])
    told: list[tuple[int, int]] = []
    report = evaluate(request, progress=lambda done, total: told.append((done, total)))
    result = result_of(request)
    assert result.tuned["exact_match"].mean == report.metrics["exact_match"] == pytest.approx(38 / 40)
    assert result.baseline["exact_match"].mean == pytest.approx(4 / 40)
    gain = result.difference["exact_match"]
    assert gain.mean == pytest.approx(34 / 40)
    assert gain.low is not None
    assert gain.high is not None
    assert 0.6 < gain.low < gain.mean < gain.high <= 1.0
    assert result.tuned["jaccard_similarity"].mean == pytest.approx(39 / 40)
    assert told[0] == (0, 40)
    assert told[-1] == (40, 40)
    first = scores_of(request)[0]
    assert first.tuned == {"exact_match": 1.0, "jaccard_similarity": 1.0, "rouge_score": 1.0}
    assert first.baseline == {"exact_match": 0.0, "jaccard_similarity": 0.0, "rouge_score": 0.0}
    assert sorted(path.name for path in request.output.iterdir()) == ["metrics.json", "scores.jsonl"]


def test_pairs_are_narrower_than_two_samples(tmp_path: Path) -> None:
    """Where both are right on the same rows, only the rows on which they differ count."""
    tuned = answered(*["red", "blue"] * 40)
    baseline = answered("blue", "blue", *["red", "blue"] * 39)
    request = qa_request(tmp_path, tuned, baseline)
    evaluate(request, progress=no_progress)
    result = result_of(request)
    alone, paired = result.tuned["exact_match"], result.difference["exact_match"]
    assert alone.low is not None
    assert alone.high is not None
    assert paired.low is not None
    assert paired.high is not None
    assert paired.high - paired.low < (alone.high - alone.low) / 2


def test_rows_of_one_prompt_count_as_one(tmp_path: Path) -> None:
    prompts = ["same"] * 20 + ["other"] * 20
    request = qa_request(tmp_path, answered(*["red"] * 20, *["blue"] * 20, prompts=prompts))
    evaluate(request, progress=no_progress)
    found = result_of(request).tuned["exact_match"]
    assert (found.low, found.high) == (0.0, 1.0)
    assert result_of(request).baseline == {}


def test_a_metric_that_fails_keeps_its_reason_and_stops_nothing(plugins: Path, tmp_path: Path) -> None:
    rows = answered("red", "red", "blue")
    request = qa_request(tmp_path, rows, rows, llm_metrics=["picky", "exact_match"])
    report = evaluate(request, progress=no_progress)
    result = result_of(request)
    assert result.tuned["picky"].rows == result.difference["picky"].rows == 2
    assert result.tuned["exact_match"].rows == 3
    assert result.failures == {"picky": {"ValueError: not this one": 2}}
    assert report.notes == ["picky could not be taken of 2 answers: ValueError: not this one"]
    assert scores_of(request)[1].failures == {
        "tuned.picky": "ValueError: not this one",
        "baseline.picky": "ValueError: not this one",
    }


def test_results_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    request = qa_request(tmp_path, answered("red", "red"), answered("red"))
    with pytest.raises(StageFailed, match="do not hold the same rows"):
        evaluate(request, progress=no_progress)


def test_a_wrong_name_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    request = qa_request(tmp_path, answered("red"), llm_metrics=["length_test"])
    with pytest.raises(StageFailed, match="did you mean 'summary_length'"):
        evaluate(request, progress=no_progress)
    assert list(request.output.iterdir()) == []


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with fake_openai() as state:
        yield state


def test_banks_are_asked_of_the_tuned_model(server: FakeOpenAI, tmp_path: Path) -> None:
    suite = tmp_path / "suite"
    (suite / "more").mkdir(parents=True)
    (suite / "json.csv").write_text('"Test Type","prompt"\n"json_valid","{}"\n"json_valid","[1]"\n')
    (suite / "more" / "same.csv").write_text(
        '"Test Type","prompt","ground_truth"\n"exact_match","hi","hi!"\n'
    )
    request = qa_request(
        tmp_path, answered("red"), test_suite=str(suite), inference={"endpoint": server.url, "batch_size": 1}
    )
    report = evaluate(request, progress=no_progress)
    tests = {bank.name: (bank.passed, bank.failed) for bank in result_of(request).tests}
    assert tests == {"json": (0, 2), "more-same": (1, 0)}
    assert report.details["tests"][1] == {"name": "more-same", "passed": 1, "failed": 0}
    assert server.prompts() == ["{}", "[1]", "hi"]
    table = (request.output / "json_results.csv").read_text().splitlines()
    assert table[0] == "Test Type,prompt,ground_truth,threshold,Predicted,Result,Reason"
    assert table[1].startswith("json_valid,{},,,{}!,failed,not JSON: ")
    assert not (request.output / "banks").exists()


def test_after_kill_9_what_is_judged_is_not_judged_again(plugins: Path, tmp_path: Path) -> None:
    rows = answered(*["red"] * 9)
    request = qa_request(tmp_path, rows, llm_metrics=["counting"])
    calls = tmp_path / "calls"
    process = start_stage(request, path=plugins)
    try:
        _wait_for_lines(calls, 6, process)  # the sixth hangs until it is told to go
    finally:
        process.kill()
        process.wait()
    assert not (request.output / "metrics.json").exists()
    journal = request.output / "scored.jsonl"
    assert len(journal.read_bytes().splitlines()) == 5
    journal.write_bytes(journal.read_bytes() + b'{"id":"r')  # as a kill in the middle of a write leaves it

    (tmp_path / "go").touch()
    told: list[tuple[int, int]] = []
    evaluate(request, progress=lambda done, total: told.append((done, total)))
    counts = Counter(calls.read_text().splitlines())
    assert counts == Counter({f"question {number}": 1 + (number == 5) for number in range(9)})
    assert (5, 9) in told
    assert [row.id for row in scores_of(request)] == [row.id for row in rows]
    assert result_of(request).tuned["counting"].mean == 3.0


def _wait_for_lines(path: Path, count: int, process: Any, *, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists() or len(path.read_text().splitlines()) < count:
        assert process.poll() is None, f"the stage ended with {process.returncode}"
        assert time.monotonic() < deadline, f"{path} did not get {count} lines within {seconds:g} s"
        time.sleep(0.02)  # nothing tells when a foreign process has written


def test_the_scores_are_json_that_others_can_read(tmp_path: Path) -> None:
    request = qa_request(tmp_path, answered("red"))
    evaluate(request, progress=no_progress)
    line = json.loads((request.output / "scores.jsonl").read_text())
    assert line == {"id": "r0", "tuned": {"exact_match": 1.0}, "baseline": None, "failures": {}}
