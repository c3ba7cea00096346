"""How the next tokens are drawn from logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Completion", "Question", "SampledToken", "choose"]


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt and how its answer is drawn.

    Attributes:
        model: the name of the base model or of a version.
        prompt: token ids.
        max_tokens: after which the answer ends.
        temperature: 0 is greedy.
        top_p: only the likeliest tokens of this mass are drawn.
        top: alternatives that are reported for each token.
        stop: texts that end the answer.
        seed: None draws from the server's own generator.
    """

    model: str
    prompt: tuple[int, ...]
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top: int = 0
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class SampledToken:
    """A token, its log-probability without temperature, and the alternatives, likeliest first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """The tokens of one answer; the end token is not part of its text."""

    text: str
    sampled: tuple[SampledToken, ...]
    tokens: int
    finish: Literal["stop", "length"]


def choose(
    questions: Sequence[Question],
    logits: Tensor,
    *,
    shared: torch.Generator,
    own: Sequence[torch.Generator | None],
) -> Tensor:
    """Sample by the Gumbel trick, which is greedy where the noise is 0.

    Args:
        questions: one a row.
        logits: (rows, vocabulary).
        shared: the generator of questions that have none of their own.
        own: each question's generator, or None.

    Returns:
        Token ids (rows,).
    """
    noise = -torch.empty_like(logits).exponential_(generator=shared).log()
    scale = torch.ones(len(questions), 1)
    for index, question in enumerate(questions):
        if question.temperature == 0.0:
            noise[index] = 0.0
            continue
        scale[index] = question.temperature
        if own[index] is not None:
            noise[index] = -torch.empty_like(noise[index]).exponential_(generator=own[index]).log()
    scaled = logits / scale
    if any(question.top_p < 1.0 for question in questions):
        mass = torch.tensor([[question.top_p] for question in questions])
        scaled = _nucleus(scaled, mass)
    return (scaled + noise).argmax(-1)


def _nucleus(logits: Tensor, mass: Tensor) -> Tensor:
    """Leave of each row (rows, vocabulary) the fewest likeliest tokens that hold ``mass`` (rows, 1)."""
    ordered, tokens = logits.softmax(-1).sort(descending=True)
    beyond = ordered.cumsum(-1) - ordered >= mass
    return logits.masked_fill(beyond.scatter(-1, tokens, beyond), float("-inf"))
