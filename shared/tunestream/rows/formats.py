"""Rows of each format of training data, read as prompts and answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from tunestream.config.experiment.row_format import RowFormat
from tunestream.events.messages import OpenAIMessage, Prompt
from tunestream.rows.cells import Reading, read_answer, read_conversation, read_prompt, unwritten
from tunestream.rows.columns import CHATS, COMPLETIONS, holds_chat
from tunestream.rows.left_out import Unusable
from tunestream.rows.messages import writable

__all__ = ["read_formatted"]

Values = Mapping[str, Any]

_SPEAKERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "human": "user",
        "user": "user",
        "gpt": "assistant",
        "chatgpt": "assistant",
        "bing": "assistant",
        "bard": "assistant",
        "bot": "assistant",
        "assistant": "assistant",
        "model": "assistant",
        "system": "system",
        "tool": "tool",
        "observation": "tool",
    }
)
"""Who speaks in ShareGPT's conversations → role."""


def read_formatted(form: RowFormat, row: Values, dropped: Counter[str]) -> Reading:
    """Read a row of a format.

    Args:
        form: e.g. of :func:`~tunestream.rows.columns.recognise`.
        row: its values by column.
        dropped: counts the keys of messages, and the columns, that are left out.

    Raises:
        Unusable: when the row is not what its format is.
    """
    if row.get("tools"):
        dropped["tools"] += 1
    read = _READERS[form](row, dropped)
    return read._replace(prompt=_instructed(read.prompt, _plain(row, "system")))


def _instructed(prompt: Prompt, system: str) -> Prompt:
    """Return a prompt with the text of a column ``system`` in front, if there is any."""
    if not system or not prompt or (isinstance(prompt, str) and prompt.isspace()):
        return prompt
    messages = [OpenAIMessage(role="user", content=prompt)] if isinstance(prompt, str) else prompt
    if messages[0].role != "system":
        return [OpenAIMessage(role="system", content=system), *messages]
    if messages[0].content != system:
        raise Unusable("bad_messages", "system: differs from the system message of the prompt; keep one")
    return messages


def _alpaca(row: Values, dropped: Counter[str]) -> Reading:
    parts = [_plain(row, name) for name in ("instruction", "input")]
    asked = "\n\n".join(part for part in parts if part)
    earlier = _earlier(row)
    if not earlier:
        return Reading(asked, read_answer(row.get("output"), "output", dropped))
    prompt = [*earlier, OpenAIMessage(role="user", content=asked)]
    return Reading(prompt, read_answer(row.get("output"), "output", dropped))


def _earlier(row: Values) -> list[OpenAIMessage]:
    """Return the turns of a history, which come before an instruction."""
    messages = []
    for turn in row.get("history") or []:
        if not isinstance(turn, list) or len(turn) != 2 or not all(isinstance(text, str) for text in turn):
            raise Unusable("bad_messages", "history: is no list of pairs of texts, question and answer")
        messages += [
            OpenAIMessage(role=role, content=text)
            for role, text in zip(("user", "assistant"), turn, strict=True)
        ]
    return messages


def _sharegpt(row: Values, dropped: Counter[str]) -> Reading:
    column = next((name for name in CHATS if holds_chat(row, "from", name)), "conversations")
    said = row.get(column)
    if not isinstance(said, list):
        raise Unusable("bad_messages", f"{column}: is no list of messages with from and value")
    messages = [_spoken(one, f"{column}.{number}", dropped) for number, one in enumerate(said)]
    return read_conversation(messages, column, dropped)


def _spoken(one: object, field: str, dropped: Counter[str]) -> dict[str, Any]:
    speaker = one.get("from") if isinstance(one, Mapping) else None
    role = _SPEAKERS.get(speaker.lower()) if isinstance(speaker, str) else None
    if not isinstance(one, Mapping) or role is None:
        known = ", ".join(_SPEAKERS)
        raise Unusable("bad_messages", f"{field}.from: is {speaker!r}; it may be one of {known}")
    dropped.update(writable(name) for name in one if name not in {"from", "value"} and one[name] is not None)
    return {"role": role, "content": one.get("value")}


def _messages(row: Values, dropped: Counter[str]) -> Reading:
    column = next((name for name in CHATS if row.get(name)), CHATS[0])
    return read_conversation(row.get(column), column, dropped)


def _prompt_completion(row: Values, dropped: Counter[str]) -> Reading:
    column = next((name for name in COMPLETIONS if name in row), COMPLETIONS[0])
    return Reading(
        read_prompt(row.get("prompt"), "prompt", dropped), read_answer(row.get(column), column, dropped)
    )


def _kto(row: Values, dropped: Counter[str]) -> Reading:
    given = row.get("label")
    label = _TRUTH.get(given.lower() if isinstance(given, str) else given) if _is_scalar(given) else None
    if label is None:
        found = "missing" if given is None else repr(given)
        raise Unusable("bad_label", f"label: is {found}; write true or false")
    return _prompt_completion(row, dropped)._replace(label=label)


def _preference(row: Values, dropped: Counter[str]) -> Reading:
    chosen, before = _ending(row.get("chosen"), "chosen", dropped)
    rejected, others = _ending(row.get("rejected"), "rejected", dropped)
    if before != others:
        raise Unusable("bad_messages", "chosen: differs from rejected before the last message")
    given = row.get("prompt", row.get("messages"))
    if given is None:
        if not before:
            raise Unusable(
                "empty_prompt",
                "prompt: is missing, and the answers have nothing before them; "
                "write data.prompt, data.chosen and data.rejected",
            )
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


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float)


_TRUTH: Final[Mapping[object, bool]] = MappingProxyType(
    {"true": True, "1": True, 1: True, "false": False, "0": False, 0: False}
)
"""What a label may be; true and 1.0 are the same key as 1."""

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
