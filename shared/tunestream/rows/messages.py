"""One reading of messages for every way in: they are those of the OpenAI chat API.

A message has a role and content: text, null, or parts that are all text and are joined. It may have
``tool_calls``, ``tool_call_id``, ``name`` and ``reasoning_content``. Null means absent. What training does
not need is dropped and counted by key; what it would miss is refused with field and reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tunestream.events.base import NotKept, check_kept
from tunestream.events.messages import ChatMessage, OpenAIMessage, Prompt, Response, ToolCall, ToolFunction

__all__ = ["MessageError", "are_messages", "kind_of", "prompt_of", "response_of", "text_of", "writable"]

_KEYS: Final = frozenset({"role", "content", "tool_calls", "tool_call_id", "name", "reasoning_content"})
# To drop one of these would lose what was written, shown or called.
_REFUSED: Final = ("audio", "function_call", "images", "refusal", "videos")
_TEXT_PARTS: Final = frozenset({"text", "input_text", "output_text"})
_SHOWN: Final = 40
_MISSING: Final = "is missing"


class MessageError(ValueError):
    """A value is no message, prompt or response.

    Attributes:
        field: dotted, e.g. ``prompt.0.content``.
        reason: for people: what is wrong and what to do about it.
        missing: whether nothing is there where something must be.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason
        self.missing = reason.startswith(_MISSING)


def prompt_of(value: object, field: str, dropped: Counter[str]) -> Prompt:
    """Read a prompt: text, or a list of messages.

    Args:
        value: the prompt as it came; null is an empty one.
        field: its name, for errors.
        dropped: counts by key what was left out of messages.

    Raises:
        MessageError: when it is neither.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise MessageError(
            field, f"is {kind_of(value)}; send text, or a list of messages with role and content"
        )
    return [_message(item, f"{field}.{number}", dropped) for number, item in enumerate(value)]


def text_of(value: object, field: str, dropped: Counter[str]) -> str:
    """Read a response that has to be text alone; see :func:`response_of`.

    Raises:
        MessageError: also when it calls tools or has reasoning.
    """
    response = response_of(value, field, dropped)
    if isinstance(response, str):
        return response
    more = "tool_calls" if response.tool_calls is not None else "reasoning_content"
    raise MessageError(f"{field}.{more}", "cannot be part of a response here; send text alone")


def response_of(value: object, field: str, dropped: Counter[str]) -> Response:
    """Read a response: text, an assistant's message, or a list of one such message.

    A message with text alone is its text; one with tool calls or reasoning stays a message.

    Raises:
        MessageError: when it is neither.
    """
    if isinstance(value, str):
        return value
    if value is None:
        raise MessageError(field, f"{_MISSING}; send the text of the response")
    if isinstance(value, list):
        if len(value) != 1:
            raise MessageError(field, f"is a list of {len(value)}; send text, or one assistant message")
        value, field = value[0], f"{field}.0"
    if not isinstance(value, Mapping | OpenAIMessage):
        raise MessageError(field, f"is {kind_of(value)}; send text, or one assistant message")
    message = _message(value, field, dropped)
    if message.role != "assistant":
        raise MessageError(f"{field}.role", f"is {message.role[:_SHOWN]!r}; a response is an assistant's")
    if isinstance(message, ChatMessage) and (message.tool_calls or message.reasoning_content is not None):
        return message
    return message.content


def are_messages(value: object) -> bool:
    """Return whether a value is meant as messages: a list of objects with a role, and not empty."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(item, OpenAIMessage) or (isinstance(item, Mapping) and "role" in item)
            for item in value
        )
    )


def _message(item: object, field: str, dropped: Counter[str]) -> OpenAIMessage:
    if isinstance(item, OpenAIMessage):
        return item
    if not isinstance(item, Mapping):
        raise MessageError(field, f"is {kind_of(item)}; a message is an object with role and content")
    role = item.get("role")
    if not isinstance(role, str) or not role:
        raise MessageError(f"{field}.role", f"is {kind_of(role)}; name who wrote the message")
    _drop(item, field, dropped)
    more = {
        "tool_calls": _tool_calls(item.get("tool_calls"), f"{field}.tool_calls", dropped),
        **{
            name: _text(item.get(name), f"{field}.{name}")
            for name in ("tool_call_id", "name", "reasoning_content")
        },
    }
    content = _content(item.get("content"), f"{field}.content")
    if content is None:
        if more["tool_calls"] is None and more["reasoning_content"] is None:
            raise MessageError(f"{field}.content", f"{_MISSING}; send text, or parts of text")
        content = ""
    if not any(value is not None for value in more.values()):
        return OpenAIMessage.of_valid(role=role, content=content)
    return ChatMessage.of_valid(role=role, content=content, **more)


def _drop(item: Mapping[Any, Any], field: str, dropped: Counter[str]) -> None:
    """Count the keys that are left out; those of absent values are none."""
    for name, value in item.items():
        if name in _KEYS or value is None or value in ([], {}, ""):
            continue
        if name in _REFUSED:
            raise MessageError(f"{field}.{name}", "cannot be trained on; send text, or tool_calls")
        dropped[writable(name)] += 1


def _content(value: object, field: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise MessageError(field, f"is {kind_of(value)}; send text, or parts of text")
    return "".join(_part(part, f"{field}.{number}") for number, part in enumerate(value))


def _part(part: object, field: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise MessageError(field, f"is {kind_of(part)}; a part is an object of the type text")
    kind, text = part.get("type", "text"), part.get("text")
    if kind not in _TEXT_PARTS:
        raise MessageError(
            f"{field}.type", f"is {str(kind)[:_SHOWN]!r}; only parts of text can be trained on"
        )
    if not isinstance(text, str):
        raise MessageError(f"{field}.text", f"is {kind_of(text)}; send text")
    return text


def _tool_calls(value: object, field: str, dropped: Counter[str]) -> list[ToolCall] | None:
    if value is None or value == []:
        return None
    if not isinstance(value, list):
        raise MessageError(field, f"is {kind_of(value)}; send a list of calls")
    return [_tool_call(call, f"{field}.{number}", dropped) for number, call in enumerate(value)]


def _tool_call(call: object, field: str, dropped: Counter[str]) -> ToolCall:
    if isinstance(call, ToolCall):
        return call
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping):
        raise MessageError(f"{field}.function", "is missing; a call has a function with name and arguments")
    if call.get("type") not in (None, "function"):
        raise MessageError(
            f"{field}.type", f"is {str(call['type'])[:_SHOWN]!r}; only functions can be called"
        )
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str) or not name:
        raise MessageError(f"{field}.function.name", f"is {kind_of(name)}; name the function")
    if not isinstance(arguments, str | Mapping | None):
        raise MessageError(
            f"{field}.function.arguments", f"is {kind_of(arguments)}; send JSON text or an object"
        )
    for whole, known in ((call, {"id", "type", "function"}), (function, {"name", "arguments"})):
        dropped.update(
            f"tool_calls.{writable(key)}" for key in whole if key not in known and whole[key] is not None
        )
    return ToolCall.of_valid(
        id=_text(call.get("id"), f"{field}.id"),
        type="function",
        function=ToolFunction.of_valid(
            name=name, arguments=_arguments(arguments, f"{field}.function.arguments")
        ),
    )


def _arguments(value: str | Mapping[str, Any] | None, field: str) -> str | dict[str, Any]:
    if value is None:
        return "{}"
    if isinstance(value, str):
        return value
    arguments = dict(value)
    try:
        check_kept(arguments)
    except NotKept as error:
        raise MessageError(field, str(error)) from error
    return arguments


def writable(name: object) -> str:
    """Return the name of a key as text that UTF-8 can hold: half of a character is written as its escape."""
    return str(name).encode(errors="backslashreplace").decode()


def _text(value: object, field: str) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    raise MessageError(field, f"is {kind_of(value)}; send text")


def kind_of(value: object) -> str:
    """Describe a value by its type, for people."""
    if value is None:
        return "missing"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, str):
        return "text" if value else "empty"
    if isinstance(value, bool):
        return "true or false"
    return (
        "a number"
        if isinstance(value, int | float)
        else "a list"
        if isinstance(value, list)
        else type(value).__name__
    )
