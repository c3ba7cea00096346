"""The values of answers become means, differences and counted failures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.helpers.stages import qa_request
from tunestream.experiments.qa.scores import ScoreRow, measure_pair, read_pairs, summarise_scores
from tunestream.experiments.requests import QaRequest
from tunestream.experiments.results import ResultRow, TestBank
from tunestream.experiments.stages import StageFailed


def answers(*predicted: str) -> list[ResultRow]:
    return [
        ResultRow(id=f"r{number}", prompt=f"p{number}", ground_truth="red", predicted=text)
        for number, text in enumerate(predicted)
    ]


def length(*, prompt: str, ground_truth: str, predicted: str) -> float:
    if not predicted:
        raise ValueError("no answer")
    return float(len(predicted))


def scores_of(request: QaRequest) -> list[ScoreRow]:
    return [measure_pair(pair, {"length": length}) for pair in read_pairs(request)]


def compared(folder: Path, tuned: Sequence[str], baseline: Sequence[str]) -> QaRequest:
    return qa_request(folder, answers(*tuned), answers(*baseline))


def test_a_value_that_cannot_be_taken_is_a_reason(tmp_path: Path) -> None:
    (row,) = scores_of(compared(tmp_path, ["red"], [""]))
    assert (row.tuned, row.baseline) == ({"length": 3.0}, {})
    assert row.failures == {"baseline.length": "ValueError: no answer"}


def test_differences_are_paired(tmp_path: Path) -> None:
    request = compared(tmp_path, ["aaa", "a", ""], ["a", "", "aa"])
    result = summarise_scores(request, read_pairs(request), scores_of(request), [])
    assert (result.tuned["length"].mean, result.tuned["length"].rows) == (2.0, 2)
    assert (result.baseline["length"].mean, result.baseline["length"].rows) == (1.5, 2)
    assert (result.difference["length"].mean, result.difference["length"].rows) == (2.0, 1)
    assert result.failures == {"length": {"ValueError: no answer": 2}}


def test_without_a_baseline_there_is_no_difference(tmp_path: Path) -> None:
    request = qa_request(tmp_path, answers("a", "aa"))
    bank = TestBank(name="json", passed=1, failed=2)
    result = summarise_scores(request, read_pairs(request), scores_of(request), [bank])
    assert result.tuned["length"].mean == 1.5
    assert (result.baseline, result.difference) == ({}, {})
    assert result.tests == [bank]


def test_answers_to_other_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="do not hold the same rows"):
        read_pairs(compared(tmp_path, ["a", "b"], ["a"]))
