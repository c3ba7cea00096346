"""Candidates of a recording: what pairing decides on, the rest as slices of JSON that rows are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import orjson

from tunestream.domain.effects import Refused
from tunestream.events.messages import ChatMessage, Prompt, Response

__all__ = ["Found", "Member", "encoded", "encoded_list", "encoded_prompt"]


class Member(msgspec.Struct, frozen=True, gc=False):
    """One scored candidate; what was answered and the answer are canonical JSON, equal for equal ones.

    ``tools`` and the ids of tokens are empty where there are none.
    """

    example_id: str
    turn_id: str
    candidate_id: str
    index: int | None
    prompt: bytes
    response: bytes
    score: float
    tools: bytes = b""
    prompt_token_ids: bytes = b""
    token_ids: bytes = b""
    expected: int | None = None

    @property
    def more(self) -> bool:
        """Whether there is more than texts."""
        return bool(self.tools or self.prompt_token_ids or self.token_ids) or self.response[:1] != b'"'


class Found(NamedTuple):
    """What a line holds.

    Attributes:
        example_id: whose it is.
        members: candidates of one turn.
        seconds: when it happened, as it was written; None when it has no time.
        ends_turn: the turn that it ends, after its members.
        ends_example: whether it ends its example.
        refusals: of candidates that do not count.
        repeats: how many were left out since the same line has them.
    """

    example_id: str
    members: Sequence[Member] = ()
    seconds: object = None
    ends_turn: str | None = None
    ends_example: bool = False
    refusals: Sequence[Refused] = ()
    repeats: int = 0


def encoded(response: Response) -> bytes:
    """Return a response as canonical JSON."""
    return response.to_json() if isinstance(response, ChatMessage) else orjson.dumps(response)


def encoded_list(value: Sequence[Any] | None) -> bytes:
    """Return tools or the ids of tokens as JSON, empty when there are none."""
    return b"" if value is None else orjson.dumps(value)


def encoded_prompt(prompt: Prompt) -> bytes:
    """Return a prompt as canonical JSON."""
    if isinstance(prompt, str):
        return orjson.dumps(prompt)
    return b"[%b]" % b",".join(message.to_json() for message in prompt)
