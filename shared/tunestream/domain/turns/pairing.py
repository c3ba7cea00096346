"""What a preference pair is, and what keeps two candidates of a turn from being one."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from tunestream.events.messages import ChatMessage, Prompt

__all__ = [
    "REASONS",
    "C",
    "PairRules",
    "PairedPositions",
    "Pairing",
    "Scored",
    "contexts_of",
    "pairs_of",
    "prompt_key",
]


class Scored(Protocol):
    """What pairing reads of a candidate."""

    @property
    def prompt(self) -> Prompt:
        """What was answered."""

    @property
    def response(self) -> str:
        """The answer."""

    @property
    def score(self) -> float:
        """Finite; higher is better."""

    @property
    def candidate_index(self) -> int | None:
        """The agent's number for it, None when unknown."""

    @property
    def raw_metadata(self) -> dict[str, Any]:
        """The rest of what the agent published with it."""


C = TypeVar("C", bound=Scored)

# Why a pair is not made, in the order in which it is asked.
REASONS: Final = ("different_prompt", "identical_response", "tie", "score_diff", "max_pairs")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRules:
    """How a turn's candidates are paired.

    Attributes:
        exhaustive: every better candidate with every worse one; otherwise only best with worst.
        min_score_diff: a pair needs at least this difference of raw scores.
        max_pairs: keep so many pairs of an exhaustive turn, largest differences first.
        require_multiple: whether a lone candidate is counted as skipped.
        filtered: never pair equal scores, identical responses or different prompts.
    """

    exhaustive: bool = True
    min_score_diff: float = 0.0
    max_pairs: int | None = None
    require_multiple: bool = True
    filtered: bool = True


class Pairing(NamedTuple, Generic[C]):
    """``chosen`` is preferred to ``rejected``; ``score_diff`` is the raw difference of their scores."""

    chosen: C
    rejected: C
    score_diff: float


class PairedPositions(NamedTuple):
    """The pairs of a turn, by the positions of its candidates.

    Attributes:
        kept: position of the chosen and of the rejected candidate, and the raw difference of their scores.
        skipped: how many pairs were not made, by reason.
    """

    kept: list[tuple[int, int, float]]
    skipped: dict[str, int]


def prompt_key(prompt: Prompt) -> str | tuple[tuple[str, str | bytes], ...]:
    """Return a hashable form of a prompt; equal exactly for equal prompts."""
    if isinstance(prompt, str):
        return prompt
    return tuple(
        (message.role, message.to_json() if isinstance(message, ChatMessage) else message.content)
        for message in prompt
    )


def contexts_of(prompts: Iterable[Prompt]) -> list[Hashable]:
    """Return the key of each prompt; that of one object in a row is made once."""
    keys: list[Hashable] = []
    latest: Prompt | None = None
    for prompt in prompts:
        keys.append(keys[-1] if prompt is latest else prompt_key(prompt))
        latest = prompt
    return keys


def pairs_of(n: int) -> int:
    """Return how many pairs ``n`` candidates have."""
    return n * (n - 1) // 2
