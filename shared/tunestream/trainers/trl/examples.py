"""What a trainer takes: token ids, and how many rows were left out by reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

__all__ = ["Episode", "Examples", "Marked", "Preference", "Response", "Sized"]


class Marked(NamedTuple):
    """Token ids of one sequence, and a 1 for each that the policy generated or should learn to generate."""

    input_ids: list[int]
    mask: list[int]

    @classmethod
    def of(cls, prompt: list[int], answer: list[int], limit: int | None) -> Marked:
        """Mark the answer; of the sequence the first ``limit`` tokens are kept."""
        mask = [0] * len(prompt) + [1] * len(answer)
        return cls((prompt + answer)[:limit], mask[:limit])

    @property
    def labels(self) -> list[int]:
        """The ids where they are marked, else -100."""
        return _labels(self.input_ids, self.mask)

    @property
    def tokens(self) -> int:
        """Tokens of the sequence."""
        return len(self.input_ids)


class Preference(NamedTuple):
    """Token ids of one preference, in the names of TRL's collator."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]

    @property
    def tokens(self) -> int:
        """Tokens of both sequences."""
        return 2 * len(self.prompt_ids) + len(self.chosen_ids) + len(self.rejected_ids)


class Response(NamedTuple):
    """Token ids of a response that is desirable, or is not; in the names of TRL's collator."""

    prompt_ids: list[int]
    completion_ids: list[int]
    label: bool

    @property
    def tokens(self) -> int:
        """Tokens of the sequence."""
        return len(self.prompt_ids) + len(self.completion_ids)


class Episode(NamedTuple):
    """Token ids of one episode.

    ``mask`` is 1 for the tokens that the policy generated, ``old_logps`` their recorded log-probabilities
    in nats, 0 elsewhere; ``advantage`` is how much better the episode was than its group.
    """

    input_ids: list[int]
    mask: list[int]
    old_logps: list[float]
    advantage: float

    @property
    def labels(self) -> list[int]:
        """The ids where they are marked, else -100."""
        return _labels(self.input_ids, self.mask)

    @property
    def tokens(self) -> int:
        """Tokens of the sequence."""
        return len(self.input_ids)


class Sized(Protocol):
    """An example."""

    @property
    def tokens(self) -> int:
        """Tokens that the model reads for it."""


E = TypeVar("E", bound=Sized)


@dataclass(slots=True)
class Examples(Generic[E]):
    """Usable rows, and how many were left out by reason."""

    usable: list[E] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def tokens(self) -> int:
        """Tokens of all usable rows."""
        return sum(example.tokens for example in self.usable)


def _labels(ids: list[int], mask: list[int]) -> list[int]:
    return [token if marked else -100 for token, marked in zip(ids, mask, strict=True)]
