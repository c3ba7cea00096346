"""Prompts and responses as agents publish them: read, or refused by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from tunestream.domain.effects import Refused
from tunestream.events.base import NotKept
from tunestream.events.messages import OpenAIMessage, Prompt, Response, Tools
from tunestream.rows.messages import MessageError, prompt_of, response_of
from tunestream.rows.tools import tools_of

__all__ = ["CONVERSATION", "is_answer", "read_prompt", "read_response", "read_tools", "without_answer"]

CONVERSATION: Final = 2
"""The fewest messages of a prompt that may end in the answer: something has to be answered."""


def read_prompt(value: object, field: str, dropped: Counter[str]) -> Prompt:
    """Read a prompt; ``dropped`` counts the keys of messages that are left out.

    Raises:
        Refused: when it is neither text nor messages that can be trained on.
    """
    try:
        return prompt_of(value, field, dropped)
    except MessageError as error:
        raise _refusal(error) from None


def read_response(value: object, field: str, dropped: Counter[str]) -> Response:
    """Read a response: text, or an assistant's message where there is more than text.

    Raises:
        Refused: when it is neither text nor an assistant's message.
    """
    try:
        return response_of(value, field, dropped)
    except MessageError as error:
        raise _refusal(error) from None


def read_tools(value: object) -> Tools | None:
    """Read the tools of a turn.

    Raises:
        Refused: when they are no functions.
    """
    try:
        return tools_of(value, "tools")
    except MessageError as error:
        raise _refusal(error) from None


def without_answer(prompt: Prompt, response: Response) -> Prompt:
    """Return a prompt without the answer: its last message, where that is the candidate's own response."""
    if isinstance(prompt, str) or len(prompt) < CONVERSATION or not is_answer(prompt[-1:], response):
        return prompt
    return prompt[:-1]


def is_answer(messages: Sequence[OpenAIMessage], response: Response) -> bool:
    """Return whether ``messages`` are one, an assistant's, that equals the response."""
    if len(messages) != 1 or messages[0].role != "assistant":
        return False
    if isinstance(response, str):
        return type(messages[0]) is OpenAIMessage and messages[0].content == response
    return messages[0] == response


def _refusal(error: MessageError) -> Refused:
    if isinstance(error.__cause__, NotKept):
        return Refused(error.__cause__.code, str(error))
    if error.missing:
        return Refused("schema.missing", str(error))
    return Refused("schema.wrong_type", str(error))
