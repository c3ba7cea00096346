"""Prompts, answers and conversations in the columns of a row."""

from __future__ import annotations

import json
from collections import Counter
from typing import NamedTuple

from tunestream.events.messages import Prompt
from tunestream.rows.left_out import Unusable
from tunestream.rows.messages import MessageError, are_messages, prompt_of, text_of

__all__ = ["Reading", "read_answer", "read_conversation", "read_prompt", "unwritten"]


class Reading(NamedTuple):
    """What a row asks and knows.

    Attributes:
        prompt: what is asked.
        answer: the answer, or the preferred one.
        rejected: the other answer, None where there is one only.
        label: whether the answer is desirable, None where it is not judged.
    """

    prompt: Prompt
    answer: str
    rejected: str | None = None
    label: bool | None = None


def read_prompt(value: object, column: str, dropped: Counter[str]) -> Prompt:
    """Read a prompt; messages may be written as JSON.

    Raises:
        Unusable: when it is neither text nor messages.
    """
    try:
        return prompt_of(unwritten(value, column), column, dropped)
    except MessageError as error:
        raise Unusable("bad_messages", str(error)) from None


def read_answer(value: object, column: str, dropped: Counter[str]) -> str:
    """Read an answer: text, or one assistant's message, which may be written as JSON.

    Raises:
        Unusable: when it is neither.
    """
    if value is None or value == "":
        raise Unusable("empty_answer", f"{column}: is missing")
    try:
        return text_of(unwritten(value, column), column, dropped)
    except MessageError as error:
        raise Unusable("bad_messages", str(error)) from None


def read_conversation(value: object, column: str, dropped: Counter[str]) -> Reading:
    """Read messages of which the last is the answer.

    Raises:
        Unusable: when they are no messages, or the last is not an assistant's.
    """
    messages = read_prompt(value, column, dropped)
    if isinstance(messages, str):
        raise Unusable("bad_messages", f"{column}: is text or missing; a conversation is a list of messages")
    if len(messages) < 2:
        raise Unusable(
            "bad_messages", f"{column}: has {len(messages)} messages; give a question and its answer"
        )
    *asked, answer = messages
    return Reading(asked, read_answer(answer, f"{column}.{len(asked)}", dropped))


def unwritten(value: object, column: str) -> object:
    """Return the messages of a text that is their JSON; any other value as it is.

    Raises:
        Unusable: when it is Python's text of messages, as pandas writes lists into CSV.
    """
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")) or "role" not in value:
        return value
    try:
        written = json.loads(value)
    except (ValueError, RecursionError):
        if value.lstrip().startswith(("[{'role'", "[{'content'")):
            raise Unusable("bad_messages", f"{column}: is Python's text of messages; write JSON") from None
        return value
    return written if are_messages(written) or are_messages([written]) else value
