"""Messages of the OpenAI chat API are read whole, or refused with field and reason."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tunestream.events.messages import ChatMessage, OpenAIMessage, ToolCall, ToolFunction
from tunestream.rows.messages import MessageError, are_messages, prompt_of, response_of, text_of

PLAIN = OpenAIMessage(role="user", content="ab")
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
IMAGE, CODE = {"type": "image_url"}, {"type": "code"}


def read(message: object) -> tuple[Any, dict[str, int]]:
    dropped: Counter[str] = Counter()
    found = prompt_of([message], "prompt", dropped)
    return found[0], dict(dropped)


def text(*parts: object) -> list[object]:
    return [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]


@pytest.mark.parametrize(
    "message",
    [
        PLAIN,
        {"role": "user", "content": "ab"},
        {"role": "user", "content": text("ab")},
        {"role": "user", "content": text("a", "b")},
        {"role": "user", "content": text("a", {"type": "input_text", "text": "b"})},
        {"role": "user", "content": ["a", "b"]},
        {"role": "user", "content": "ab", "name": None, "tool_calls": None, "audio": None, "refusal": None},
        {"role": "user", "content": "ab", "tool_calls": [], "name": "", "annotations": []},
    ],
)
def test_one_message_in_its_forms(message: object) -> None:
    assert read(message) == (PLAIN, {})


def test_what_training_needs_is_kept() -> None:
    message = {"role": "assistant", "content": None, "reasoning_content": "hm", "name": "n"}
    found, dropped = read(message | {"tool_calls": [CALL | {"index": 0}], "id": 7, "weight": 0})
    function = ToolFunction(name="f", arguments='{"a": 1}')
    assert found == ChatMessage(
        role="assistant",
        content="",
        reasoning_content="hm",
        name="n",
        tool_calls=[ToolCall(id="c", function=function)],
    )
    assert dropped == {"id": 1, "weight": 1, "tool_calls.index": 1}
    assert ChatMessage.model_validate_json(found.to_json()) == found
    assert b"null" not in found.to_json()


def test_arguments_may_be_an_object_or_none() -> None:
    cases: list[tuple[Any, Any]] = [({"a": 1}, {"a": 1}), (None, "{}")]
    for given, kept in cases:
        call = {"function": {"name": "f", "arguments": given}}
        assert read({"role": "assistant", "tool_calls": [call]})[0].tool_calls[0].function.arguments == kept


@pytest.mark.parametrize(
    ("message", "field", "reason"),
    [
        ("text", "prompt.0", "is text; a message is an object"),
        ({"content": "a"}, "prompt.0.role", "is missing"),
        ({"role": 7, "content": "a"}, "prompt.0.role", "is a number"),
        ({"role": "user"}, "prompt.0.content", "is missing"),
        ({"role": "user", "content": None}, "prompt.0.content", "is missing"),
        ({"role": "user", "content": {"text": "a"}}, "prompt.0.content", "is an object"),
        (
            {"role": "user", "content": text("a", {"type": "image_url"})},
            "prompt.0.content.1.type",
            "'image_url'",
        ),
        ({"role": "user", "content": text({"type": "text"})}, "prompt.0.content.0.text", "is missing"),
        ({"role": "user", "content": [7]}, "prompt.0.content.0", "is a number"),
        ({"role": "user", "content": "a", "name": 7}, "prompt.0.name", "is a number"),
        (
            {"role": "assistant", "content": "", "function_call": {"name": "f"}},
            "prompt.0.function_call",
            "cannot",
        ),
        ({"role": "assistant", "content": "", "refusal": "no"}, "prompt.0.refusal", "cannot be trained on"),
        ({"role": "assistant", "tool_calls": "f()"}, "prompt.0.tool_calls", "is text"),
        ({"role": "assistant", "tool_calls": ["f"]}, "prompt.0.tool_calls.0.function", "is missing"),
        (
            {"role": "assistant", "tool_calls": [CALL | {"type": "code"}]},
            "prompt.0.tool_calls.0.type",
            "'code'",
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 7}}]},
            "prompt.0.tool_calls.0.function.arguments",
            "is a number",
        ),
    ],
)
def test_anything_else_is_refused_by_name(message: object, field: str, reason: str) -> None:
    with pytest.raises(MessageError) as caught:
        read(message)
    assert caught.value.field == field
    assert reason in caught.value.reason


@pytest.mark.parametrize("value", [7, {"role": "user", "content": "a"}, True])
def test_a_prompt_is_text_or_a_list(value: object) -> None:
    with pytest.raises(MessageError, match="prompt: is "):
        prompt_of(value, "prompt", Counter())


ANSWER = {"role": "assistant", "content": text("a", "b")}


@pytest.mark.parametrize("value", ["ab", ANSWER, [ANSWER], OpenAIMessage(role="assistant", content="ab")])
def test_a_response_is_text_or_an_assistants_message(value: object) -> None:
    assert response_of(value, "response", Counter()) == "ab"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "response: is missing"),
        (7, "response: is a number"),
        ([], "response: is a list of 0"),
        ([ANSWER, ANSWER], "response: is a list of 2"),
        ({"role": "user", "content": "a"}, "response.role: is 'user'"),
        ({"answer": "a"}, "response.role: is missing"),
    ],
)
def test_another_response_is_refused_by_name(value: object, said: str) -> None:
    with pytest.raises(MessageError, match=said):
        response_of(value, "response", Counter())


@pytest.mark.parametrize(
    ("more", "field"),
    [({"tool_calls": [CALL]}, "tool_calls"), ({"reasoning_content": "so"}, "reasoning_content")],
)
def test_a_response_with_more_than_text_stays_a_message(more: dict[str, object], field: str) -> None:
    read = response_of(ANSWER | more | {"id": 1}, "response", dropped := Counter[str]())
    assert isinstance(read, ChatMessage)
    assert (read.content, dropped) == ("ab", {"id": 1})
    assert getattr(read, field)
    with pytest.raises(MessageError, match=f"response.{field}: cannot be part of a response here"):
        text_of(ANSWER | more, "response", Counter())


@pytest.mark.parametrize(
    ("value", "are"),
    [
        ([ANSWER], True),
        ([PLAIN], True),
        ([], False),
        ("[]", False),
        ([{"a": 1}], False),
        ({"role": "user"}, False),
    ],
)
def test_messages_are_known_by_their_roles(value: object, are: bool) -> None:
    assert are_messages(value) is are


def test_the_names_of_what_is_dropped_can_be_written() -> None:
    dropped: Counter[str] = Counter()
    call = {"function": {"name": "f", "arguments": "{}"}, "\ud83d": 1}
    prompt_of([{"role": "assistant", "tool_calls": [call], "k\ud83d": 1}], "prompt", dropped)
    assert dropped == {"k\\ud83d": 1, "tool_calls.\\ud83d": 1}
