"""Data in every format becomes rows that train and rows that judge; what is odd about it is said."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunestream.artifacts import read_rows
from tunestream.config.experiment.data import DataConfig
from tunestream.events.dataset import PreferenceRow, ResponseRow
from tunestream.experiments.ingest import IngestReport, ingest
from tunestream.experiments.results import TestRow
from tunestream.experiments.sources import fingerprint
from tunestream.experiments.splitting import Sizes, SplitImpossible, split
from tunestream.experiments.stages import StageFailed

ROWS = [
    {"question": f"{n} + 1 ?", "answer": str(n + 1), "kind": "odd" if n % 2 else "even"} for n in range(40)
]
TEMPLATES = {"prompt": "Sum: {question}", "prompt_stub": "{answer}", "train_size": 30, "test_size": 10}


def write_json(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows, indent=1))


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(rows), path)


def write_saved(path: Path, rows: list[dict[str, Any]]) -> None:
    from datasets import Dataset, DatasetDict

    first, second = Dataset.from_list(rows[:20]), Dataset.from_list(rows[20:])
    DatasetDict({"train": first, "test": second}).save_to_disk(str(path))


def run(folder: Path, **data: Any) -> IngestReport:
    config = DataConfig.model_validate(data)
    (folder / "out").mkdir(exist_ok=True)
    return ingest(config, folder / "out", groups=None, progress=lambda *_: None)


def of_rows(folder: Path, rows: list[dict[str, Any]], **data: Any) -> IngestReport:
    write_jsonl(folder / "rows.jsonl", rows)
    return run(folder, path=str(folder / "rows.jsonl"), **data)


def trained(folder: Path, part: str = "train") -> list[Any]:
    return list(read_rows((folder / "out" / f"{part}.jsonl").read_bytes()))


def judged(folder: Path) -> list[TestRow]:
    lines = (folder / "out" / "test.jsonl").read_bytes().splitlines()
    return [TestRow.model_validate_json(line) for line in lines]


def failure(make: Callable[[], object]) -> StageFailed:
    with pytest.raises(StageFailed) as caught:
        make()
    return caught.value


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("rows.json", write_json),
        ("rows.jsonl", write_jsonl),
        ("rows.csv", write_csv),
        ("rows.parquet", write_parquet),
        ("saved", write_saved),
    ],
)
def test_every_format_gives_the_same_rows(
    tmp_path: Path, name: str, write: Callable[[Path, list[dict[str, Any]]], None]
) -> None:
    write(tmp_path / name, ROWS)
    report = run(tmp_path, path=str(tmp_path / name), **TEMPLATES)
    (other := tmp_path / "other").mkdir()
    of_rows(other, ROWS, **TEMPLATES)
    assert (report.rows, report.train, report.test) == (40, 30, 10)
    assert trained(tmp_path) == trained(other)
    assert judged(tmp_path) == judged(other)
    assert all(isinstance(row, ResponseRow) for row in trained(tmp_path))
    assert all(row.prompt.startswith("Sum: ") for row in trained(tmp_path))


def test_a_folder_of_files_is_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    write_jsonl(tmp_path / "data" / "train.jsonl", ROWS)
    assert run(tmp_path, path=str(tmp_path / "data"), **TEMPLATES).rows == 40


def test_what_trains_is_never_asked(tmp_path: Path) -> None:
    of_rows(tmp_path, ROWS, **TEMPLATES, validation_size=0)
    asked = {row.prompt for row in judged(tmp_path)}
    assert len(asked) == 10
    assert not asked & {row.prompt for row in trained(tmp_path)}
    assert all(row.ground_truth not in str(row.prompt).split() for row in judged(tmp_path))


@pytest.mark.parametrize(
    ("field", "template"), [("prompt", "{qestion}"), ("prompt_stub", "{anser}"), ("stratify_by", "knd")]
)
def test_a_missing_column_is_named_with_the_nearest_one(tmp_path: Path, field: str, template: str) -> None:
    said = failure(lambda: of_rows(tmp_path, ROWS, **(TEMPLATES | {field: template})))
    assert said.code == "missing_column"
    assert f"data.{field}" in said.message
    assert "did you mean" in said.message
    assert "question, answer, kind" in said.message


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", '{"question": 1}', "a.json:1: is one object without an array of rows"),
        ("a.json", '[{"question": "a", "answer": "b"}, ', "is not JSON"),
        ("a.json", "[1, 2]", "row 1: is not an object"),
        ("a.jsonl", '{"question": "a", "answer": "b"}\n{"question"', "a.jsonl:2: is not JSON"),
        ("a.csv", "question,answer\n1,2,3\n", "a.csv:2: has 3 cells"),
        ("a.parquet", "no parquet", "is not Parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    caught = failure(lambda: run(tmp_path, path=str(tmp_path / name), **TEMPLATES))
    assert caught.code == "bad_data"
    assert said in caught.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    data = DataConfig(path=str(tmp_path / "no.csv"), prompt="{a}", prompt_stub="{b}")
    assert "no.csv" in failure(lambda: fingerprint(data)).message


def test_odd_rows_are_left_out_counted_and_told(tmp_path: Path) -> None:
    odd: list[dict[str, Any]] = [
        {"question": " ", "answer": "1", "kind": "x"},
        {"question": "a", "answer": None, "kind": "x"},
        {"kind": 1},
    ]
    report = of_rows(tmp_path, [*ROWS, ROWS[0], *odd], prompt="{question}", prompt_stub="{answer}")
    assert report.left_out == {"empty_prompt": 1, "empty_answer": 1, "missing_column": 1}
    path = tmp_path / "rows.jsonl"
    assert report.first_left_out == {
        "empty_prompt": f"{path}:42: prompt: is empty",
        "empty_answer": f"{path}:43: answer: is empty",
        "missing_column": f"{path}:44: question: is missing",
    }
    assert report.duplicates == 1
    assert report.prompts is not None
    assert (report.prompts.shortest, report.prompts.longest) == (7, 8)
    assert any("3 of 44 rows were left out" in note for note in report.notes())
    assert of_rows(tmp_path, [*ROWS, ROWS[0]], **TEMPLATES, deduplicate=True).usable == 40


def test_leaks_are_told_and_grouping_mends_them(tmp_path: Path) -> None:
    doubled = [row | {"answer": f"{row['answer']}{more}"} for row in ROWS for more in ("", "!")]
    sizes: dict[str, Any] = TEMPLATES | {"train_size": 0.7, "test_size": 0.3}
    report = of_rows(tmp_path, doubled, **sizes)
    assert report.leaks > 0
    assert report.leaking[0] in report.notes()[-1]
    grouped = of_rows(tmp_path, doubled, **sizes, group_by="question")
    assert grouped.leaks == 0
    assert (grouped.train, grouped.test) == (56, 24)


def test_strata_keep_their_shares(tmp_path: Path) -> None:
    rows = [row | {"kind": "rare" if n % 10 == 0 else "common"} for n, row in enumerate(ROWS)]
    of_rows(tmp_path, rows, **TEMPLATES, stratify_by="kind")
    rare = {f"Sum: {row['question']}" for row in rows if row["kind"] == "rare"}
    assert sum(row.prompt in rare for row in judged(tmp_path)) == 1


def test_chats_keep_their_turns(tmp_path: Path) -> None:
    chats = [
        {"m": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}]}
        for n in range(9)
    ]
    bad: list[dict[str, Any]] = [{"m": [{"role": "user", "content": "alone"}]}, {"m": "no json"}]
    report = of_rows(tmp_path, [*chats, {"m": json.dumps(chats[0]["m"])}, *bad], messages="m", train_size=0.5)
    assert report.left_out == {"bad_messages": 2}
    assert report.duplicates == 1
    row = trained(tmp_path)[0]
    assert row.prompt[0].role == "user"
    assert row.response == row.prompt[0].content.replace("q", "a")


def test_preferences_have_two_answers(tmp_path: Path) -> None:
    rows = [row | {"worse": "0"} for row in ROWS] + [ROWS[0] | {"worse": ROWS[0]["answer"]}]
    data = {"prompt": "{question}", "chosen": "{answer}", "rejected": "{worse}"}
    report = of_rows(tmp_path, rows, **data, train_size=30, test_size=5, validation_size=5)
    assert report.left_out == {"identical_answers": 1}
    assert (report.train, report.validation, report.test) == (30, 5, 5)
    assert all(isinstance(row, PreferenceRow) and row.rejected == "0" for row in trained(tmp_path))
    assert judged(tmp_path)[0].ground_truth != "0"


def test_values_that_are_no_text_are_rendered(tmp_path: Path) -> None:
    rows = [{"q": {"a": [1, "ü"]}, "n": 1.5, "a": True} for _ in range(4)]
    of_rows(tmp_path, rows, prompt="{{{q}}} {n}", prompt_stub="{a}", train_size=2, test_size=2)
    assert trained(tmp_path)[0] == ResponseRow(prompt='{{"a": [1, "ü"]}} 1.5', response="True")


def test_what_is_no_text_leaves_its_row_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    data = {"path": str(path), "prompt": "{q} {n:.2f}", "prompt_stub": "{n}"} | SOME
    raw = [b"x", b"x", b"x", b"\xff"]
    values = [{"day": date(2026, 1, 2), "sum": Decimal("2.5"), "raw": one} for one in raw]
    write_parquet(path, [{"q": value, "n": 1.0} for value in values])
    first = run(tmp_path, **data).first_left_out["not_text"]
    assert first.endswith("row 4: q: holds bytes that are no text in UTF-8")
    assert '{"day": "2026-01-02", "sum": "2.5", "raw": "x"} 1.00' in {row.prompt for row in trained(tmp_path)}
    write_parquet(path, [{"q": one, "n": 1.0} for one in raw])
    assert run(tmp_path, **data).left_out == {"not_text": 1}
    write_parquet(path, [{"q": "x", "n": "1.0"}])
    assert "not_text" in failure(lambda: run(tmp_path, **data)).message


def test_too_few_rows_are_told(tmp_path: Path) -> None:
    assert "ask for more" in failure(lambda: of_rows(tmp_path, ROWS[:20], **TEMPLATES)).message


SOME: dict[str, Any] = {"train_size": 2, "test_size": 1}
USER = {"role": "user", "content": "q"}
GOOD, BAD = {"role": "assistant", "content": "good"}, {"role": "assistant", "content": "bad"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
PARTS = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]


def numbered(row: dict[str, Any], count: int = 3) -> list[dict[str, Any]]:
    """Return rows of different prompts."""
    return [json.loads(json.dumps(row).replace('"q"', f'"q{number}"')) for number in range(count)]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("good", "good"),
        ([GOOD], "good"),
        (GOOD, "good"),
        (json.dumps([GOOD]), "good"),
        ({"move": 3}, '{"move": 3}'),
    ],
)
def test_an_answer_that_is_a_message_is_its_text(tmp_path: Path, answer: object, text: str) -> None:
    rows = [{"m": [USER | {"content": f"q{n}"}], "chosen": answer, "rejected": [BAD]} for n in range(3)]
    report = of_rows(tmp_path, rows, messages="m", chosen="{chosen}", rejected="{rejected}", **SOME)
    assert report.left_out == {}
    assert {(row.chosen, row.rejected) for row in trained(tmp_path)} == {(text, "bad")}


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ([GOOD, GOOD], "chosen: is a list of 2"),
        ([USER], "chosen.0.role: is 'user'"),
        ([CALL], "chosen.tool_calls: cannot be part of a response here"),
        ("[{'role': 'assistant', 'content': 'good'}]", "chosen: is Python's text of messages"),
    ],
)
def test_other_messages_are_no_answer(tmp_path: Path, answer: object, found: str) -> None:
    rows = [{"q": f"q{n}", "chosen": "good", "rejected": "bad"} for n in range(3)]
    rows.append({"q": "x", "chosen": answer, "rejected": "bad"})  # type: ignore[dict-item]
    report = of_rows(tmp_path, rows, prompt="{q}", chosen="{chosen}", rejected="{rejected}", **SOME)
    assert report.left_out == {"bad_messages": 1}
    assert f"rows.jsonl:4: {found}" in report.first_left_out["bad_messages"]
    assert any(found in note for note in report.notes())


def test_messages_of_a_chat_keep_tool_calls_and_join_parts(tmp_path: Path) -> None:
    tool = {"role": "tool", "tool_call_id": "c", "content": PARTS, "weight": 1}
    report = of_rows(tmp_path, numbered({"m": [USER, CALL, tool, GOOD]}), messages="m", **SOME)
    prompt = trained(tmp_path)[0].prompt
    assert [message.content for message in prompt][1:] == ["", "ab"]
    assert prompt[1].tool_calls[0].function.name == "f"
    assert report.dropped == {"weight": 3}
    assert "weight (3)" in report.notes()[-1]


def test_messages_in_a_template_are_never_json(tmp_path: Path) -> None:
    rows = numbered({"m": [USER], "a": "good"})
    of_rows(tmp_path, rows, prompt="{m}", prompt_stub="{a}", **SOME)
    assert trained(tmp_path)[0].prompt[0].role == "user"
    said = failure(lambda: of_rows(tmp_path, rows, prompt="so: {m}", prompt_stub="{a}", **SOME))
    assert "m: holds messages, which are no part of a text" in said.message


def test_what_is_no_number_is_missing(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"q": f"q{n}", "a": 1.5} for n in range(4)] + [
        {"q": "x", "a": float("nan")}
    ]
    more = {"prompt": "{q}", "prompt_stub": "{a}"} | SOME
    assert of_rows(tmp_path, rows, **more).left_out == {"empty_answer": 1}
    write_parquet(tmp_path / "rows.parquet", rows)
    assert run(tmp_path, path=str(tmp_path / "rows.parquet"), **more).left_out == {"empty_answer": 1}


def test_half_a_character_leaves_its_row_out(tmp_path: Path) -> None:
    rows = [{"q": f"q{n}", "a": "🙂" if n < 3 else "cut \ud83d"} for n in range(4)]
    report = of_rows(tmp_path, rows, prompt="{q}", prompt_stub="{a}", **SOME)
    assert report.left_out == {"lone_surrogate": 1}
    first = report.first_left_out["lone_surrogate"]
    assert first.endswith(r"rows.jsonl:4: answer: not text: lone surrogate \ud83d")


def test_columns_that_are_known_need_no_template(tmp_path: Path) -> None:
    report = of_rows(tmp_path, numbered({"instruction": "q", "output": "a", "other": 1}), **SOME)
    assert report.format == "alpaca"
    assert "the rows are read as alpaca" in report.notes()
    assert trained(tmp_path)[0].response == "a"


def test_a_response_that_is_labelled_as_bad_judges_nothing(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "completion": f"a{n}", "label": n % 2 == 0} for n in range(20)]
    report = of_rows(tmp_path, rows, train_size=10, test_size=10)
    assert report.format == "kto"
    assert {row.label for row in trained(tmp_path)} == {True, False}
    answers = [row.ground_truth for row in judged(tmp_path)]
    assert answers
    assert len(answers) == report.test < 10
    assert all(int(answer[1:]) % 2 == 0 for answer in answers)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"messages": [USER, GOOD], "chosen": "a", "rejected": "b"},
            "write data.format: messages or data.format: preference",
        ),
        ({"question": "q", "answer": "a"}, "write data.prompt and data.prompt_stub"),
        ({"text": "q"}, "holds whole texts"),
    ],
)
def test_columns_that_are_not_known_ask_for_a_setting(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    assert said in failure(lambda: of_rows(tmp_path, numbered(row), **SOME)).message


@given(
    st.integers(2, 200),
    st.floats(0.05, 0.9),
    st.integers(0, 20),
    st.sampled_from(["plain", "strata", "groups"]),
    st.integers(0, 3),
)
def test_parts_never_meet_and_have_their_sizes(
    count: int, train: float, test: int, how: str, seed: int
) -> None:
    labels = [random.Random(position).randrange(7) for position in range(count)]
    options = {} if how == "plain" else {how: labels}
    sizes = Sizes(train, 0, test)
    try:
        parts = split(count, sizes, seed, **options)
    except SplitImpossible:
        return
    every = [*parts.train, *parts.validation, *parts.test]
    assert len(set(every)) == len(every)
    assert set(every) <= set(range(count))
    assert parts == split(count, sizes, seed, **options)
    if how == "groups":
        assert not {labels[at] for at in parts.train} & {labels[at] for at in parts.test}
    else:
        assert len(parts.test) == test
    if how == "strata" and test:
        for label, members in Counter(labels).items():
            got = sum(labels[at] == label for at in parts.test)
            assert abs(got - test * members / count) <= 2
