from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import pytest

from tunestream.experiments.qa.banks import Bank, judge_bank, read_banks, results_table
from tunestream.experiments.qa.metrics import Embeddings
from tunestream.experiments.results import ResultRow
from tunestream.experiments.stages import StageFailed


def letters(texts: Sequence[str]) -> list[list[float]]:
    return [[float(text.count(letter)) for letter in "ab"] for text in texts]


def suite(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        path = folder / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8-sig")
    return folder


def answers(bank: Bank, *predicted: str) -> list[ResultRow]:
    return [
        ResultRow(**dict(row), predicted=text) for row, text in zip(bank.questions(), predicted, strict=True)
    ]


def test_the_toolkits_banks_are_read(tmp_path: Path) -> None:
    banks = read_banks(
        suite(
            tmp_path,
            dot_product_tests='"Test Type","prompt","ground_truth","threshold"\n'
            '"cosine_similarity","Say, ""ab""","ab",0.95\n"cosine_similarity","And?","30 days",\n',
            json_validity_tests='"Test Type","prompt"\n"json_valid","Here is JSON: "\n',
        )
    )
    assert [bank.name for bank in banks] == ["dot_product_tests", "json_validity_tests"]
    first, second = banks[0].cases
    assert (first.prompt, first.ground_truth, first.threshold) == ('Say, "ab"', "ab", 0.95)
    assert second.threshold == 0.8
    assert [row.id for row in banks[0].questions()] == ["dot_product_tests/0", "dot_product_tests/1"]


def test_answers_are_judged_with_a_reason(tmp_path: Path) -> None:
    (bank,) = read_banks(
        suite(
            tmp_path,
            mixed="Test Type,prompt,ground_truth,threshold\n"
            "cosine_similarity,?,ab,0.9\ncosine_similarity,?,ab,0.9\n"
            "exact_match,?,red,\nexact_match,?,red,\njson_valid,?,,\njson_valid,?,,\n",
        )
    )
    judged = judge_bank(bank, answers(bank, "abab", "a", " red", "blue", "[1]", "[1"), Embeddings(letters))
    assert (judged.summary.passed, judged.summary.failed) == (3, 3)
    assert judged.reasons[1] == "cosine similarity 0.707 is below 0.9"
    assert judged.reasons[3] == "not the ground truth"
    assert str(judged.reasons[5]).startswith("not JSON: ")

    table = list(csv.DictReader(io.StringIO(results_table(judged))))
    assert [row["Result"] for row in table] == ["passed", "failed"] * 3
    assert table[0]["Predicted"] == "abab"
    assert (table[2]["threshold"], table[4]["ground_truth"]) == ("", "")


def test_a_prompt_without_an_answer_is_a_failed_test(tmp_path: Path) -> None:
    (bank,) = read_banks(suite(tmp_path, one="Test Type,prompt\njson_valid,?\n"))
    row = ResultRow(**dict(bank.questions()[0]), predicted="", error="too_long: 80 tokens")
    assert judge_bank(bank, [row], Embeddings(letters)).reasons == ["too_long: 80 tokens"]


HEADER = "Test Type,prompt,ground_truth,threshold\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Test type,prompt\njson_valid,?\n", ":1: there is no column 'Test Type'; did you mean 'Test type'"),
        ("Test Type,question\njson_valid,?\n", "there is no column 'prompt'"),
        (HEADER, "there are no tests in it"),
        (HEADER + "json_valid,?\njson,?\n", ":3: Test Type 'json' is unknown; did you mean 'json_valid'"),
        (
            "Test Type,prompt,truth\nexact_match,?,x\n",
            "needs the column 'ground_truth'; did you mean 'truth'",
        ),
        (HEADER + "cosine_similarity,?,x,high\n", "threshold 'high' must be a number"),
    ],
)
def test_a_bad_bank_is_refused_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(StageFailed) as failure:
        read_banks(suite(tmp_path, bank=content))
    assert message in failure.value.message


def test_a_folder_without_banks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="there are no CSV files under"):
        read_banks(tmp_path / "nowhere")
