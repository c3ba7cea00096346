"""What commands print."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from tunestream.cli import output
from tunestream.cli.output import emit, emit_line, leaves
from tunestream.events.messages import OpenAIMessage


def test_documents_may_hold_models_and_times(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"message": OpenAIMessage(role="user", content="ä"), "at": datetime(2026, 1, 2, tzinfo=UTC)})
    out = capsys.readouterr().out
    assert out.count("\n") > 1
    assert json.loads(out)["message"] == {"role": "user", "content": "ä"}
    assert json.loads(out)["at"] == "2026-01-02T00:00:00Z"


def test_a_line_holds_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    emit_line({"text": "two\nlines"})
    emit_line([1])
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"text": "two\nlines"},
        [1],
    ]


def test_leaves_are_named_by_their_paths() -> None:
    document = {"a": {"b": [1, {"c": None}]}, "empty": {}, "none": [], "text": "x"}
    assert list(leaves(document)) == [
        ("a.b[0]", 1),
        ("a.b[1].c", None),
        ("empty", {}),
        ("none", []),
        ("text", "x"),
    ]


def test_a_title_stands_above_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    output.console().print(output.table(["a long name"], [[1], [None]], title="Numbers"))
    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == [
        "Numbers",
        "a long name",
        "1",
        "",
    ]
