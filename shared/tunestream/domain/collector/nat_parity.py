"""Candidates as the NeMo Agent Toolkit's own trajectory builder reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tunestream.events.messages import OpenAIMessage, Prompt

__all__ = ["NATCandidate", "parity_prompt", "parity_response"]


class NATCandidate(NamedTuple):
    """A candidate as a ``TTC_END`` step of the toolkit has it, before it has ids.

    Pairs in exact parity are made of it as it is.
    """

    example_id: str
    turn_id: str
    candidate_index: int | None
    prompt: Prompt
    response: str
    score: float
    raw_metadata: dict[str, Any]


def parity_prompt(value: object) -> Prompt:
    """Read a step's input as the toolkit does: text, a list of messages, or Python's rendering."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        messages = [_message(item) for item in value]
        if None not in messages:
            return [message for message in messages if message is not None]
    return str(value)


def parity_response(value: object) -> str:
    """Read a step's output as the toolkit does: text, or Python's rendering; what is missing is empty."""
    return value if isinstance(value, str) else str(value) if value else ""


def _message(item: object) -> OpenAIMessage | None:
    if isinstance(item, Mapping):
        role, content = item.get("role"), item.get("content")
        if isinstance(role, str) and isinstance(content, str):
            return OpenAIMessage.of_valid(role=role, content=content)
    return None
