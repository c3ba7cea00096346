"""What the model process and its owner say to each other: one JSON object a line, an answer a call."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from tunestream.events.base import FiniteFloat, Wire
from tunestream.events.trajectories import Prompt
from tunestream.experiments.requests import ModelReference

__all__ = [
    "CALLS",
    "REPLIES",
    "Answer",
    "Answers",
    "Call",
    "Embed",
    "Generate",
    "Load",
    "Loaded",
    "Refused",
    "Reply",
    "Started",
    "Unload",
    "Vectors",
]


class Load(Wire):
    """Hold this model, and no other."""

    type: Literal["load"] = "load"
    model: ModelReference


class Unload(Wire):
    """Give back the memory of the model that is held."""

    type: Literal["unload"] = "unload"


class Generate(Wire):
    """Answer these prompts together; ``options`` are those of transformers' GenerationConfig.

    The lengths count for each prompt by itself: ``max_length`` and ``min_length`` are with the prompt's
    tokens, ``max_new_tokens`` and ``min_new_tokens`` without.
    """

    type: Literal["generate"] = "generate"
    prompts: list[Prompt]
    options: dict[str, Any]
    seed: int


class Embed(Wire):
    """Turn texts into vectors by an embedding model, a folder or a name on the Hugging Face hub."""

    type: Literal["embed"] = "embed"
    model: str
    texts: list[str]


class Started(Wire):
    """The process takes calls now."""

    type: Literal["started"] = "started"


class Loaded(Wire):
    """The model is held; ``notes`` on what this machine lacks and was changed."""

    type: Literal["loaded"] = "loaded"
    notes: list[str] = Field(default_factory=list)


class Answer(Wire):
    """An answer, or why there is none."""

    text: str = ""
    error: str | None = None


class Answers(Wire):
    """The answers, in the order of the prompts."""

    type: Literal["answers"] = "answers"
    answers: list[Answer]


class Vectors(Wire):
    """The embeddings, in the order of the texts."""

    type: Literal["vectors"] = "vectors"
    vectors: list[list[FiniteFloat]]


class Refused(Wire):
    """The call cannot be answered; codes and messages are those of a StageFailed."""

    type: Literal["refused"] = "refused"
    code: str
    message: str


Call = Annotated[Load | Unload | Generate | Embed, Field(discriminator="type")]
Reply = Annotated[Started | Loaded | Answers | Vectors | Refused, Field(discriminator="type")]

CALLS: TypeAdapter[Call] = TypeAdapter(Call)
REPLIES: TypeAdapter[Reply] = TypeAdapter(Reply)
