"""The messages between the model process and its owner: a call, and one reply to it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from tunestream.events.base import FiniteFloat, Wire
from tunestream.events.messages import Prompt
from tunestream.experiments.requests import ModelReference
from tunestream.trainers.worker.lines import CallRefused

__all__ = [
    "CALLS",
    "REPLIES",
    "Call",
    "Embed",
    "EmbeddedTexts",
    "Generate",
    "GeneratedAnswer",
    "GeneratedAnswers",
    "Load",
    "ModelLoaded",
    "ModelUnloaded",
    "Reply",
    "Unload",
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


class ModelLoaded(Wire):
    """The model is held; ``notes`` on what this machine lacks and was changed."""

    type: Literal["loaded"] = "loaded"
    notes: list[str]


class ModelUnloaded(Wire):
    """No model is held any more."""

    type: Literal["unloaded"] = "unloaded"


class GeneratedAnswer(Wire):
    """An answer, or why there is none."""

    text: str = ""
    error: str | None = None


class GeneratedAnswers(Wire):
    """The answers, in the order of the prompts."""

    type: Literal["answers"] = "answers"
    answers: list[GeneratedAnswer]


class EmbeddedTexts(Wire):
    """The vectors of the texts, in their order."""

    type: Literal["vectors"] = "vectors"
    vectors: list[list[FiniteFloat]]


Call = Annotated[Load | Unload | Generate | Embed, Field(discriminator="type")]
Reply = ModelLoaded | ModelUnloaded | GeneratedAnswers | EmbeddedTexts | CallRefused

CALLS: TypeAdapter[Call] = TypeAdapter(Call)
REPLIES: TypeAdapter[Reply] = TypeAdapter(Annotated[Reply, Field(discriminator="type")])
