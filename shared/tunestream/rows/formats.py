"""Formats of training data: recognised from the columns of a row, and read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from tunestream.config.experiment.row_format import RowFormat
from tunestream.events.trajectories import OpenAIMessage, Prompt
from tunestream.rows.cells import Reading, read_answer, read_conversation, read_prompt, unwritten
from tunestream.rows.left_out import Unusable
from tunestream.rows.messages import writable

__all__ = ["FormatUnknown", "read_formatted", "recognise"]

Values = Mapping[str, Any]

_SPEAKERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "human": "user",
        "user": "user",
        "gpt": "assistant",
        "chatgpt": "assistant",
        "assistant": "assistant",
        "model": "assistant",
        "system": "system",
        "tool": "tool",
        "observation": "tool",
    }
)
"""Who speaks in ShareGPT's conversations → role."""

_CHATS: Final = ("messages", "conversations", "conversation")
_COMPLETIONS: Final = ("completion", "response")


class FormatUnknown(ValueError):
    """The columns stand for no format, or for several; the message has the setting to write."""


def recognise(row: Values) -> RowFormat:
    """Return the format that a row's columns stand for.

    Raises:
        FormatUnknown: when that is none, or several.
    """
    found = [name for name, fits in _FITS.items() if fits(row)]
    columns = ", ".join(map(writable, row))
    if len(found) == 1:
        _check_one_of_each(found[0], row)
        return found[0]
    if found:
        ways = " or ".join(f"data.format: {name}" for name in found)
        raise FormatUnknown(f"the columns {columns} stand for several formats; write {ways}")
    raise FormatUnknown(
        f"the columns {columns} stand for no format; write data.prompt and data.prompt_stub, "
        "templates with columns in braces, or data.messages, or data.chosen and data.rejected"
    )


def _check_one_of_each(form: RowFormat, row: Values) -> None:
    """Refuse two columns of which either may be meant."""
    if form is RowFormat.MESSAGES:
        there, setting = [name for name in _CHATS if _chat(row, "role", name)], "data.messages"
    elif form in {RowFormat.PROMPT_COMPLETION, RowFormat.KTO}:
        there = [name for name in _COMPLETIONS if row.get(name) is not None]
        setting = "data.prompt and data.prompt_stub"
    else:
        return
    if len(there) > 1:
        raise FormatUnknown(f"either of the columns {' and '.join(there)} may be meant; write {setting}")


def read_formatted(form: RowFormat, row: Values, dropped: Counter[str]) -> Reading:
    """Read a row of a format.

    Args:
        form: e.g. of :func:`recognise`.
        row: its values by column.
        dropped: counts the keys of messages, and the columns, that are left out.

    Raises:
        Unusable: when the row is not what its format is.
    """
    return _READERS[form](row, dropped)


def _alpaca(row: Values, dropped: Counter[str]) -> Reading:
    parts = [_plain(row, name) for name in ("instruction", "input")]
    asked = "\n\n".join(part for part in parts if part)
    earlier = _earlier(row)
    if not earlier:
        return Reading(asked, read_answer(row.get("output"), "output", dropped))
    prompt = [*earlier, OpenAIMessage(role="user", content=asked)]
    return Reading(prompt, read_answer(row.get("output"), "output", dropped))


def _earlier(row: Values) -> list[OpenAIMessage]:
    """Return what comes before an instruction: a system message, and turns of a history."""
    messages = [OpenAIMessage(role="system", content=row["system"])] if _plain(row, "system") else []
    for turn in row.get("history") or []:
        if not isinstance(turn, list) or len(turn) != 2 or not all(isinstance(text, str) for text in turn):
            raise Unusable("bad_messages", "history: is no list of pairs of texts, question and answer")
        messages += [
            OpenAIMessage(role=role, content=text)
            for role, text in zip(("user", "assistant"), turn, strict=True)
        ]
    return messages


def _sharegpt(row: Values, dropped: Counter[str]) -> Reading:
    said = row.get("conversations")
    if not isinstance(said, list):
        raise Unusable("bad_messages", "conversations: is no list of messages with from and value")
    messages = [_spoken(one, f"conversations.{number}", dropped) for number, one in enumerate(said)]
    if _plain(row, "system"):
        messages.insert(0, {"role": "system", "content": row["system"]})
    return read_conversation(messages, "conversations", dropped)


def _spoken(one: object, field: str, dropped: Counter[str]) -> dict[str, Any]:
    speaker = one.get("from") if isinstance(one, Mapping) else None
    role = _SPEAKERS.get(speaker.lower()) if isinstance(speaker, str) else None
    if not isinstance(one, Mapping) or role is None:
        known = ", ".join(_SPEAKERS)
        raise Unusable("bad_messages", f"{field}.from: is {speaker!r}; it may be one of {known}")
    dropped.update(writable(name) for name in one if name not in {"from", "value"} and one[name] is not None)
    return {"role": role, "content": one.get("value")}


def _messages(row: Values, dropped: Counter[str]) -> Reading:
    column = next((name for name in _CHATS if name in row), _CHATS[0])
    if row.get("tools"):
        dropped["tools"] += 1
    return read_conversation(row.get(column), column, dropped)


def _prompt_completion(row: Values, dropped: Counter[str]) -> Reading:
    column = next((name for name in _COMPLETIONS if name in row), _COMPLETIONS[0])
    return Reading(
        read_prompt(row.get("prompt"), "prompt", dropped), read_answer(row.get(column), column, dropped)
    )


def _kto(row: Values, dropped: Counter[str]) -> Reading:
    label = row.get("label")
    if not isinstance(label, bool):
        label = _TRUTH.get(str(label).lower())
    if label is None:
        raise Unusable("bad_label", f"label: is {row.get('label')!r}; write true or false")
    return _prompt_completion(row, dropped)._replace(label=label)


def _preference(row: Values, dropped: Counter[str]) -> Reading:
    chosen, before = _ending(row.get("chosen"), "chosen", dropped)
    rejected, others = _ending(row.get("rejected"), "rejected", dropped)
    if before != others:
        raise Unusable("bad_messages", "chosen: differs from rejected before the last message")
    given = row.get("prompt", row.get("messages"))
    if given is None:
        if not before:
            raise Unusable("empty_prompt", "prompt: is missing, and the answers have nothing before them")
        return Reading(before, chosen, rejected)
    prompt = read_prompt(given, "prompt", dropped)
    if before and not _begins_as(before, prompt):
        raise Unusable("bad_messages", "chosen: does not begin with the prompt")
    return Reading(before or prompt, chosen, rejected)


def _ending(value: object, column: str, dropped: Counter[str]) -> tuple[str, list[OpenAIMessage]]:
    """Return an answer, and what the same column has before it."""
    found = unwritten(value, column)
    if not isinstance(found, list) or len(found) < 2:
        return read_answer(found, column, dropped), []
    conversation = read_conversation(found, column, dropped)
    assert not isinstance(conversation.prompt, str)
    return conversation.answer, conversation.prompt


def _begins_as(before: list[OpenAIMessage], prompt: Prompt) -> bool:
    if isinstance(prompt, str):
        return before[-1].role == "user" and before[-1].content.strip() == prompt.strip()
    return before == prompt


def _text(_row: Values, _dropped: Counter[str]) -> Reading:
    raise Unusable("no_answer", "text: holds prompt and answer as one; give them in columns of their own")


def _plain(row: Values, column: str) -> str:
    value = row.get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unusable("bad_messages", f"{column}: is no text")
    return value


def _chat(row: Values, key: str, *columns: str) -> bool:
    """Return whether one of the columns holds messages, known by a key."""
    for column in columns:
        value = row.get(column)
        if isinstance(value, str) and value.lstrip().startswith("["):
            return key == "role" and key in value
        if isinstance(value, list):
            return bool(value) and isinstance(value[0], Mapping) and key in value[0]
    return False


def _has(row: Values, *columns: str) -> bool:
    return all(column in row for column in columns)


def _completes(row: Values) -> bool:
    return "prompt" in row and any(name in row for name in _COMPLETIONS)


_TRUTH: Final[Mapping[str, bool]] = MappingProxyType({"true": True, "1": True, "false": False, "0": False})

_FITS_BUT_TEXT: Final[Mapping[RowFormat, Callable[[Values], bool]]] = MappingProxyType(
    {
        RowFormat.ALPACA: lambda row: _has(row, "instruction", "output"),
        RowFormat.SHAREGPT: lambda row: _chat(row, "from", "conversations"),
        RowFormat.MESSAGES: lambda row: _chat(row, "role", *_CHATS),
        RowFormat.PROMPT_COMPLETION: lambda row: _completes(row) and "label" not in row,
        RowFormat.PREFERENCE: lambda row: _has(row, "chosen", "rejected"),
        RowFormat.KTO: lambda row: _completes(row) and "label" in row,
    }
)
_FITS: Final[Mapping[RowFormat, Callable[[Values], bool]]] = MappingProxyType(
    {
        **_FITS_BUT_TEXT,
        RowFormat.TEXT: lambda row: "text" in row and not any(fits(row) for fits in _FITS_BUT_TEXT.values()),
    }
)

_READERS: Final[Mapping[RowFormat, Callable[[Values, Counter[str]], Reading]]] = MappingProxyType(
    {
        RowFormat.ALPACA: _alpaca,
        RowFormat.SHAREGPT: _sharegpt,
        RowFormat.MESSAGES: _messages,
        RowFormat.PROMPT_COMPLETION: _prompt_completion,
        RowFormat.PREFERENCE: _preference,
        RowFormat.KTO: _kto,
        RowFormat.TEXT: _text,
    }
)
