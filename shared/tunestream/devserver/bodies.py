"""The bodies of the server: OpenAI's completions and vLLM's adapter routes, as far as served.

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
    "CompletionChoice",
    "CompletionLogprobs",
    "CompletionRequest",
    "CompletionResponse",
    "Drawing",
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


class Drawing(_Body):
    """Who is asked, and how answers are drawn."""

    model: str
    temperature: float = Field(default=1.0, ge=0.0, le=2.0, description="0 is greedy")
    top_p: float = Field(default=1.0, gt=0.0, le=1.0, description="only the likeliest tokens of this mass")
    stop: str | list[str] | None = None
    seed: int | None = Field(default=None, ge=0)
    stream: Literal[False] = False
    return_tokens_as_token_ids: bool = Field(default=False, description="write tokens as token_id:N")

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class Sampling(Drawing):
    """What chat requests have in common."""

    max_tokens: int | None = Field(default=None, ge=1, description="None: as many as the context holds")
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=20)


class ChatRequest(Sampling):
    """``POST /v1/chat/completions``: one conversation, ``n`` answers."""

    messages: list[ChatMessage] = Field(min_length=1)
    n: int = Field(default=1, ge=1, le=64)


class BatchRequest(Sampling):
    """``POST /v1/chat/completions/batch``, as vLLM has it: many conversations, one answer to each."""

    messages: list[list[ChatMessage]] = Field(min_length=1, max_length=1024)


class CompletionRequest(Drawing):
    """``POST /v1/completions``: prompts as text or token ids, ``n`` answers to each."""

    prompt: str | list[int] | list[str] | list[list[int]]
    n: int = Field(default=1, ge=1, le=64)
    max_tokens: int = Field(default=16, ge=1)
    logprobs: int | None = Field(default=None, ge=0, le=20, description="alternatives for each token")

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, one or many."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if all(isinstance(part, int) for part in self.prompt):
            return [[part for part in self.prompt if isinstance(part, int)]]
        return [part for part in self.prompt if not isinstance(part, int)]


class TopLogprob(_Body):
    """A token that could have been drawn; ``logprob`` is of the unscaled distribution."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A token that was drawn."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(_Body):
    """The tokens of an answer, its end excluded unless there is no other."""

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


class CompletionLogprobs(_Body):
    """The tokens of an answer, in OpenAI's older shape; ``text_offset`` counts characters of the answer."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(_Body):
    """One answer."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"]


class CompletionResponse(_Body):
    """The answers, those to the first prompt first; ``model`` is the one that gave them."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
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
