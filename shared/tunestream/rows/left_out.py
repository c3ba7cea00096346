"""Rows that are left out: how many by reason, and of each reason the first with its place and field."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tunestream.rows.errors import Place

__all__ = ["LeftOut", "Unusable"]


class Unusable(ValueError):
    """A row that cannot be used.

    Attributes:
        code: the reason's stable name, e.g. ``empty_answer``.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


@dataclass(slots=True)
class LeftOut:
    """Counts by reason, and the first row of each."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, reason: Unusable, place: Place | None = None) -> None:
        """Count a row."""
        self.counts[reason.code] += 1
        self.first.setdefault(reason.code, f"{place}: {reason}" if place else str(reason))
