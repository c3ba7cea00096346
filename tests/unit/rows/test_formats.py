"""Formats of training data are recognised by their columns, and read as what they are."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from tunestream.config.experiment.row_format import RowFormat
from tunestream.events.messages import OpenAIMessage
from tunestream.rows.cells import Reading
from tunestream.rows.columns import FormatUnknown, recognise
from tunestream.rows.formats import read_formatted
from tunestream.rows.left_out import LeftOut, Unusable

USER, GOOD, BAD = (
    {"role": role, "content": text} for role, text in (("user", "q"), ("assistant", "a"), ("assistant", "b"))
)
ASKED = [OpenAIMessage(role="user", content="q")]
SYSTEM = [{"role": "system", "content": "s"}]
INSTRUCTED = [OpenAIMessage(role="system", content="s"), *ASKED]
SAID = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a", "weight": 1}]

ROWS: list[tuple[RowFormat, dict[str, Any], Reading]] = [
    (RowFormat.ALPACA, {"instruction": "q", "output": "a"}, Reading("q", "a")),
    (RowFormat.ALPACA, {"instruction": "q", "input": "", "output": "a", "text": "q a"}, Reading("q", "a")),
    (RowFormat.ALPACA, {"instruction": "q", "input": "i", "output": "a"}, Reading("q\n\ni", "a")),
    (
        RowFormat.ALPACA,
        {"instruction": "q", "output": "a", "system": "s", "history": [["x", "y"]]},
        Reading(
            [
                OpenAIMessage(role="system", content="s"),
                OpenAIMessage(role="user", content="x"),
                OpenAIMessage(role="assistant", content="y"),
                *ASKED,
            ],
            "a",
        ),
    ),
    (RowFormat.SHAREGPT, {"conversations": SAID}, Reading(ASKED, "a")),
    (
        RowFormat.SHAREGPT,
        {"conversations": SAID, "system": "s"},
        Reading([OpenAIMessage(role="system", content="s"), *ASKED], "a"),
    ),
    (RowFormat.SHAREGPT, {"conversation": SAID}, Reading(ASKED, "a")),
    (RowFormat.SHAREGPT, {"messages": SAID, "conversations": []}, Reading(ASKED, "a")),
    (
        RowFormat.SHAREGPT,
        {"conversations": [{"from": "Human", "value": "q"}, {"from": "bing", "value": "a"}]},
        Reading(ASKED, "a"),
    ),
    (RowFormat.MESSAGES, {"messages": [], "conversation": [USER, GOOD]}, Reading(ASKED, "a")),
    (RowFormat.MESSAGES, {"messages": [USER, GOOD]}, Reading(ASKED, "a")),
    (RowFormat.MESSAGES, {"messages": [*SYSTEM, USER, GOOD], "system": "s"}, Reading(INSTRUCTED, "a")),
    (RowFormat.MESSAGES, {"messages": [USER, GOOD], "system": "s"}, Reading(INSTRUCTED, "a")),
    (RowFormat.PROMPT_COMPLETION, {"prompt": "q", "completion": "a", "system": ""}, Reading("q", "a")),
    (
        RowFormat.PROMPT_COMPLETION,
        {"prompt": "q", "completion": "a", "system": "s"},
        Reading(INSTRUCTED, "a"),
    ),
    (
        RowFormat.PREFERENCE,
        {"prompt": "q", "chosen": "a", "rejected": "b", "system": "s"},
        Reading(INSTRUCTED, "a", "b"),
    ),
    (RowFormat.PROMPT_COMPLETION, {"prompt": " ", "completion": "a", "system": "s"}, Reading(" ", "a")),
    (RowFormat.KTO, {"prompt": "q", "completion": "a", "label": 1.0}, Reading("q", "a", label=True)),
    (RowFormat.KTO, {"prompt": "q", "completion": "a", "label": 0}, Reading("q", "a", label=False)),
    (RowFormat.MESSAGES, {"conversations": [USER, GOOD]}, Reading(ASKED, "a")),
    (RowFormat.MESSAGES, {"messages": json.dumps([USER, GOOD])}, Reading(ASKED, "a")),
    (RowFormat.PROMPT_COMPLETION, {"prompt": "q", "completion": "a"}, Reading("q", "a")),
    (RowFormat.PROMPT_COMPLETION, {"prompt": "q", "response": "a"}, Reading("q", "a")),
    (RowFormat.PROMPT_COMPLETION, {"prompt": [USER], "completion": [GOOD]}, Reading(ASKED, "a")),
    (RowFormat.PREFERENCE, {"prompt": "q", "chosen": "a", "rejected": "b"}, Reading("q", "a", "b")),
    (RowFormat.PREFERENCE, {"prompt": "q", "chosen": [GOOD], "rejected": [BAD]}, Reading("q", "a", "b")),
    (RowFormat.PREFERENCE, {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}, Reading(ASKED, "a", "b")),
    (RowFormat.PREFERENCE, {"chosen": [USER, GOOD], "rejected": [USER, BAD]}, Reading(ASKED, "a", "b")),
    (
        RowFormat.PREFERENCE,
        {"prompt": "q", "chosen": [USER, GOOD], "rejected": json.dumps([USER, BAD])},
        Reading(ASKED, "a", "b"),
    ),
    (RowFormat.KTO, {"prompt": "q", "completion": "a", "label": True}, Reading("q", "a", label=True)),
    (RowFormat.KTO, {"prompt": "q", "completion": "a", "label": "False"}, Reading("q", "a", label=False)),
]


@pytest.mark.parametrize(("form", "row", "reading"), ROWS)
def test_a_format_is_recognised_and_read(form: RowFormat, row: dict[str, Any], reading: Reading) -> None:
    assert recognise(row) is form
    assert read_formatted(form, row, Counter()) == reading
    assert recognise(row | {"id": 7, "source": "x"}) is form


def test_a_text_alone_is_a_format_too() -> None:
    assert recognise({"text": "x", "meta": {}}) is RowFormat.TEXT


def test_what_is_left_out_of_a_row_is_counted() -> None:
    dropped: Counter[str] = Counter()
    read_formatted(RowFormat.SHAREGPT, {"conversations": SAID}, dropped)
    read_formatted(RowFormat.MESSAGES, {"messages": [USER, GOOD], "tools": [{}]}, dropped)
    assert dropped == {"weight": 1, "tools": 1}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"question": "q", "answer": "a"},
            "columns question, answer stand for no format; write data.prompt",
        ),
        ({"messages": "none"}, "stand for no format"),
        ({"conversations": []}, "stand for no format"),
        (
            {"messages": [USER, GOOD], "chosen": "a", "rejected": "b"},
            "write data.format: messages or data.format: preference",
        ),
        (
            {"instruction": "q", "output": "a", "prompt": "q", "completion": "a"},
            "write data.format: alpaca or data.format: prompt_completion",
        ),
        (
            {"prompt": "q", "completion": "a", "response": "b"},
            "either of the columns completion and response",
        ),
        (
            {"messages": [USER, GOOD], "conversation": [USER, GOOD]},
            "either of the columns messages and conversation may be meant; write data.messages",
        ),
        (
            {"conversations": SAID, "conversation": SAID},
            "either of the columns conversations and conversation may be meant; keep one",
        ),
        (
            {"messages": [USER, GOOD], "conversations": SAID},
            "write data.format: sharegpt or data.format: messages",
        ),
    ],
)
def test_columns_that_stand_for_none_or_several_ask(row: dict[str, Any], said: str) -> None:
    with pytest.raises(FormatUnknown, match=said):
        recognise(row)


@pytest.mark.parametrize(
    ("form", "row", "code", "said"),
    [
        ("alpaca", {"instruction": "q", "output": None}, "empty_answer", "output: is missing"),
        ("alpaca", {"instruction": 7, "output": "a"}, "bad_messages", "instruction: is no text"),
        ("alpaca", {"instruction": "q", "output": "a", "history": [["x"]]}, "bad_messages", "history: "),
        ("sharegpt", {"conversations": None}, "bad_messages", "conversations: is no list"),
        ("sharegpt", {"conversations": [{"from": "x"}]}, "bad_messages", "conversations.0.from: is 'x'"),
        ("sharegpt", {"conversations": SAID[:1]}, "bad_messages", "has 1 messages"),
        ("sharegpt", {"conversations": [*SAID, SAID[0]]}, "bad_messages", "conversations.2.role: is 'user'"),
        ("messages", {"messages": None}, "bad_messages", "messages: is text or missing"),
        ("messages", {"messages": [USER, USER]}, "bad_messages", "messages.1.role: is 'user'"),
        (
            "messages",
            {"messages": [USER, {"role": "assistant"}]},
            "bad_messages",
            "messages.1.content: is missing",
        ),
        ("prompt_completion", {"prompt": "q"}, "empty_answer", "completion: is missing"),
        ("prompt_completion", {"prompt": 7, "completion": "a"}, "bad_messages", "prompt: is a number"),
        ("preference", {"chosen": "a", "rejected": "b"}, "empty_prompt", "prompt: is missing"),
        ("preference", {"prompt": "q", "chosen": "a"}, "empty_answer", "rejected: is missing"),
        (
            "preference",
            {"chosen": [USER, GOOD], "rejected": [USER | {"content": "x"}, BAD]},
            "bad_messages",
            "differs from rejected before",
        ),
        (
            "preference",
            {"prompt": "x", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
            "bad_messages",
            "does not begin with the prompt",
        ),
        ("kto", {"prompt": "q", "completion": "a", "label": None}, "bad_label", "label: is missing"),
        ("kto", {"prompt": "q", "completion": "a", "label": 0.5}, "bad_label", "label: is 0.5"),
        ("kto", {"prompt": "q", "completion": "a", "label": [1]}, "bad_label", "label: is [1]"),
        (
            "messages",
            {"messages": [{"role": "system", "content": "x"}, USER, GOOD], "system": "s"},
            "bad_messages",
            "system: differs",
        ),
        ("text", {"text": "x"}, "no_answer", "text: holds prompt and answer as one"),
    ],
)
def test_a_row_that_is_not_of_its_format_names_the_field(
    form: str, row: dict[str, Any], code: str, said: str
) -> None:
    with pytest.raises(Unusable) as caught:
        read_formatted(RowFormat(form), row, Counter())
    assert caught.value.code == code
    assert said in str(caught.value)


def test_the_first_of_each_reason_is_kept() -> None:
    left_out = LeftOut()
    for number in range(3):
        left_out.add(Unusable("odd" if number else "bad", f"a: {number}"))
    assert left_out.counts == {"bad": 1, "odd": 2}
    assert left_out.first == {"bad": "a: 0", "odd": "a: 1"}
