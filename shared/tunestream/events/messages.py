"""Messages of the OpenAI chat API: what prompts and responses are made of.

``OpenAIMessage`` has the name and the fields that it has in the NeMo Agent Toolkit's fine-tuning harness.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from tunestream.events.base import Sparse, Wire, kept

__all__ = [
    "ChatMessage",
    "Message",
    "OpenAIMessage",
    "Prompt",
    "Response",
    "TokenIds",
    "ToolCall",
    "ToolFunction",
    "Tools",
    "plain_text",
    "text_of",
]


class ToolFunction(Sparse):
    """What a tool call calls; the arguments are the model's text, JSON mostly, or an object."""

    name: str
    arguments: Annotated[str | dict[str, Any], AfterValidator(kept)]


class ToolCall(Sparse):
    """One call of a tool that an assistant makes."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: ToolFunction


class OpenAIMessage(Wire):
    """One chat message."""

    role: str
    content: str


class ChatMessage(Sparse, OpenAIMessage):
    """A message with what the OpenAI chat API has beside role and content.

    ``content`` is empty where an assistant calls tools and writes nothing.
    """

    tool_calls: Annotated[list[ToolCall], Field(min_length=1)] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    reasoning_content: str | None = None


# Most messages are plain and stay so. The kind with more fields set is taken: where unknown fields are left
# out, the plain one would take every message, and drop what the other has.
Message = Annotated[OpenAIMessage | ChatMessage, Field(union_mode="smart")]
Prompt = list[Message] | str

Response = Annotated[str | ChatMessage, Field(union_mode="left_to_right")]
"""What a model answered: text, or an assistant's message where there is more than text."""


Tools = Annotated[
    list[dict[str, Any]],
    Field(min_length=1, description="the tools that the model was offered, as the OpenAI chat API has them"),
    AfterValidator(kept),
]
"""Definitions of tools, each ``{"type": "function", "function": {"name": …}}``."""

TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
"""Tokens as the model read or wrote them, by the numbers of its own tokenizer."""


def text_of(response: Response) -> str:
    """Return what a model wrote in a response, without calls of tools and reasoning."""
    return response if isinstance(response, str) else response.content


def plain_text(response: Response) -> str | None:
    """Return a response that is nothing but text, None for one with more."""
    if isinstance(response, str):
        return response
    more = response.tool_calls or response.tool_call_id or response.name or response.reasoning_content
    return None if more else response.content
