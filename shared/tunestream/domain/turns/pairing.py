"""What a preference pair is, and what keeps two candidates of a turn from being one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["REASONS", "PairRules", "PairedPositions", "pairs_of"]

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


class PairedPositions(NamedTuple):
    """The pairs of a turn, by the positions of its candidates.

    Attributes:
        kept: position of the chosen and of the rejected candidate, and the raw difference of their scores.
        skipped: how many pairs were not made, by reason.
    """

    kept: list[tuple[int, int, float]]
    skipped: dict[str, int]


def pairs_of(n: int) -> int:
    """Return how many pairs ``n`` candidates have."""
    return n * (n - 1) // 2
