"""Prompts and responses as agents publish them: read, or refused by name."""

from __future__ import annotations

from collections import Counter

from tunestream.domain.effects import Refused
from tunestream.events.base import NotKept
from tunestream.events.messages import ChatMessage, OpenAIMessage, Prompt
from tunestream.events.runs import FIRST_FORMAT
from tunestream.events.ttc import CandidateStep
from tunestream.rows.messages import MessageError, prompt_of, text_of

__all__ = ["as_format", "has_more", "read_prompt", "read_response"]


def read_prompt(value: object, field: str, dropped: Counter[str]) -> Prompt:
    """Read a prompt; ``dropped`` counts the keys of messages that are left out.

    Raises:
        Refused: when it is neither text nor messages that can be trained on.
    """
    try:
        return prompt_of(value, field, dropped)
    except MessageError as error:
        raise _refusal(error) from None


def read_response(value: object, field: str, dropped: Counter[str]) -> str:
    """Read a response as text.

    Raises:
        Refused: when it is neither text nor an assistant's message.
    """
    try:
        return text_of(value, field, dropped)
    except MessageError as error:
        raise _refusal(error) from None


def _refusal(error: MessageError) -> Refused:
    if isinstance(error.__cause__, NotKept):
        return Refused(error.__cause__.code, str(error))
    if error.missing:
        return Refused("schema.missing", str(error))
    return Refused("schema.wrong_type", str(error))


def has_more(prompt: Prompt) -> bool:
    """Return whether a prompt has a message with more than role and content."""
    return not isinstance(prompt, str) and any(isinstance(message, ChatMessage) for message in prompt)


def as_format(step: CandidateStep, number: int, dropped: Counter[str]) -> CandidateStep:
    """Return a candidate as deployments of format ``number`` write it.

    The first format knows role and content alone: there the rest of a message is dropped and counted.

    Raises:
        Refused: when without the rest the conversation would not be what it was, as with tool calls.
    """
    if number > FIRST_FORMAT or isinstance(step.prompt, str):
        return step
    plain = [_plain(message, at, dropped) for at, message in enumerate(step.prompt)]
    return step.model_copy(update={"prompt": plain})


def _plain(message: OpenAIMessage, at: int, dropped: Counter[str]) -> OpenAIMessage:
    if not isinstance(message, ChatMessage):
        return message
    if message.tool_calls is not None or not message.content:
        raise Refused(
            "schema.unknown_field",
            f"prompt.{at}.tool_calls: this deployment writes format 1, which has none; "
            "finish the upgrade: tunestream upgrade finish",
        )
    rest = message.model_dump(exclude={"role", "content"})
    dropped.update(rest.keys())
    return OpenAIMessage.of_valid(role=message.role, content=message.content)
