"""Slices of JSON that views leave to the collector, read as the models of the same texts are.

What a slice holds comes again and again: the candidates of a turn repeat its prompt, and turns their tools.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson
from pydantic import TypeAdapter
from pydantic_core import from_json

from tunestream.domain.collector.prompts import CONVERSATION, is_answer
from tunestream.events.messages import ChatMessage, OpenAIMessage, Response
from tunestream.events.ttc import PublishedPrompt
from tunestream.events.views.slices import is_prompt
from tunestream.rows.messages import prompt_of, response_of
from tunestream.rows.tools import tools_of

__all__ = ["PromptSlice", "prompt_slice", "response_slice", "tools_slice"]

_CACHED: Final = 32
_PROMPTS: Final = TypeAdapter[Any](PublishedPrompt)


class PromptSlice(NamedTuple):
    """A prompt in its one spelling.

    Attributes:
        written: the whole of it.
        last: its last message, where that may be an answer.
        answer: the text that a response has that is the last message; empty when no text is.
        before: what is left without the last message.
        dropped: how many keys of messages were left out.
    """

    written: bytes
    last: OpenAIMessage | None = None
    answer: bytes = b""
    before: bytes = b""
    dropped: int = 0

    def ends_in(self, response: bytes) -> bool:
        """Return whether the last message is a response, given in its one spelling."""
        if self.last is None:
            return False
        if response[:1] == b'"':
            return response == self.answer
        return is_answer([self.last], ChatMessage.model_validate_json(response))


def prompt_slice(slice_: bytes) -> PromptSlice:
    """Read a prompt; one that is text is in its one spelling already.

    Raises:
        ValueError: when it cannot be trained on.
    """
    return PromptSlice(slice_) if slice_[:1] == b'"' else _conversation(slice_)


@lru_cache(maxsize=_CACHED)
def _conversation(slice_: bytes) -> PromptSlice:
    if is_prompt(slice_) and not _may_end_in_answer(slice_):
        return PromptSlice(slice_)
    dropped: Counter[str] = Counter()
    messages = prompt_of(_PROMPTS.validate_json(slice_), "prompt", dropped)
    assert not isinstance(messages, str)
    if len(messages) < CONVERSATION or messages[-1].role != "assistant":
        return PromptSlice(_list(messages), dropped=dropped.total())
    last = messages[-1]
    answer = orjson.dumps(last.content) if type(last) is OpenAIMessage else b""
    return PromptSlice(_list(messages), last, answer, _list(messages[:-1]), dropped.total())


def _may_end_in_answer(written: bytes) -> bool:
    """Return whether the last message of a prompt in its one spelling may be an assistant's."""
    # Quotes in texts are escaped, so only a message begins like this, or an argument of a call.
    last = written[written.rfind(b'{"role":"') :]
    return last.startswith(b'{"role":"assistant"') or b'"arguments":{' in written


def _list(messages: list[OpenAIMessage]) -> bytes:
    return b"[%b]" % b",".join([message.to_json() for message in messages])


def response_slice(slice_: bytes, dropped: Counter[str]) -> bytes:
    """Read a response; one that is text is in its one spelling already.

    Raises:
        ValueError: when it cannot be trained on.
    """
    if slice_[:1] == b'"':
        return slice_
    response: Response = response_of(from_json(slice_), "response", dropped)
    return orjson.dumps(response) if isinstance(response, str) else response.to_json()


@lru_cache(maxsize=_CACHED)
def tools_slice(slice_: bytes) -> bytes | None:
    """Read the tools of a turn.

    Raises:
        ValueError: when they are no functions.
        TypeError: when they have an integer of more than 64 bits.
    """
    tools = tools_of(from_json(slice_), "tools")
    return None if tools is None else orjson.dumps(tools)
