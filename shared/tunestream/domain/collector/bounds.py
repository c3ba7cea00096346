"""Bounds of names and scores, however they were published."""

from __future__ import annotations

import math
from typing import Final

from tunestream.domain.effects import Refused
from tunestream.events.base import IDENTIFIER_LENGTH

__all__ = ["LARGEST_SCORE", "check_name", "check_range"]

LARGEST_SCORE: Final = 1e150
"""Beyond it, differences and means of scores could leave the range of floats."""


def check_name(field: str, name: str) -> None:
    """Make sure that a name can be an identifier.

    Raises:
        Refused: when it is empty or too long.
    """
    if not 0 < len(name) <= IDENTIFIER_LENGTH:
        raise Refused(
            "schema.wrong_type", f"{field}: has {len(name)} characters; send 1 to {IDENTIFIER_LENGTH}"
        )


def check_range(name: str, value: float, largest: float = LARGEST_SCORE) -> None:
    """Make sure that a score is finite and of a size to calculate with.

    Raises:
        Refused: when it is not.
    """
    if abs(value) <= largest:  # which NaN is not
        return
    if not math.isfinite(value):
        raise Refused("non_finite", f"{name} is {value}; send a finite number")
    raise Refused("schema.score_range", f"{name} is {value:g}; scale scores into ±{LARGEST_SCORE:g}")
