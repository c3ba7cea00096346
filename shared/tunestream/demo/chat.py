"""The bodies of the policy server: OpenAI's chat completions and vLLM's adapter routes, as far as served.

Fields that are not served are refused by name instead of being ignored.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "ApiError",
    "BatchRequest",
    "ChatChoice",
    "ChatMessage",
    "ChatRequest",
    "ChatResponse",
    "ChoiceLogprobs",
    "LoadAdapter",
    "ModelCard",
    "ModelList",
    "Sampling",
    "TokenLogprob",
    "TopLogprob",
    "UnloadAdapter",
    "Usage",
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ChatMessage(_Body):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Sampling(_Body):
    """Who is asked, and how answers are drawn."""

    model: str
    temperature: float = Field(default=1.0, ge=0.0, le=2.0, description="0 is greedy")
    max_tokens: int | None = Field(default=None, ge=1, description="None: as many as the context holds")
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=20)
    stop: str | list[str] | None = None
    seed: int | None = Field(default=None, ge=0)
    stream: Literal[False] = False

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class ChatRequest(Sampling):
    """``POST /v1/chat/completions``: one conversation, ``n`` answers."""

    messages: list[ChatMessage] = Field(min_length=1)
    n: int = Field(default=1, ge=1, le=64)


class BatchRequest(Sampling):
    """``POST /v1/chat/completions/batch``, as vLLM has it: many conversations, one answer to each."""

    messages: list[list[ChatMessage]] = Field(min_length=1, max_length=1024)


class TopLogprob(_Body):
    """A token that could have been said; ``logprob`` is of the unscaled distribution."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A token that was said."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(_Body):
    """The tokens of an answer, its end excluded unless nothing else was said."""

    content: list[TokenLogprob]


class ChatChoice(_Body):
    """One answer."""

    index: int
    message: ChatMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: Literal["stop", "length"]


class Usage(_Body):
    """Counts of tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatResponse(_Body):
    """The answers; ``model`` is the one that gave them."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class ModelCard(_Body):
    """A served model; an adapter has its base as ``parent``."""

    id: str
    object: Literal["model"] = "model"
    root: str
    parent: str | None = None
    owned_by: str = "tunestream"


class ModelList(_Body):
    """``GET /v1/models``."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class LoadAdapter(_Body):
    """``POST /v1/load_lora_adapter``; the path may also hold full weights."""

    lora_name: str = ""
    lora_path: str = ""
    load_inplace: bool = False


class UnloadAdapter(_Body):
    """``POST /v1/unload_lora_adapter``."""

    lora_name: str = ""


class ApiError(Exception):
    """A refusal as OpenAI-compatible servers word it."""

    def __init__(self, status: int, message: str, *, kind: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param

    def body(self) -> dict[str, object]:
        """Return the JSON body of the answer."""
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.status}
        return {"error": error}
