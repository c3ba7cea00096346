"""What is wrong with a file of rows, and where."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Place", "RowError"]


class Place(NamedTuple):
    """Where a row begins: a line of a text file, or the number of a row, from 1."""

    file: str
    number: int
    unit: str = "line"

    def __str__(self) -> str:
        return f"{self.file}:{self.number}" if self.unit == "line" else f"{self.file}: row {self.number}"


class RowError(ValueError):
    """A file cannot be read as rows.

    Attributes:
        place: where; None when the file as a whole is meant.
        field: the column or key, empty when none is meant.
        reason: for people: what is wrong and what to do about it.
        detail: field and reason, for who names the place himself.
    """

    def __init__(self, where: Place | str, reason: str, *, field: str = "") -> None:
        self.detail = f"{field}: {reason}" if field else reason
        super().__init__(f"{where}: {self.detail}")
        self.place = where if isinstance(where, Place) else None
        self.field = field
        self.reason = reason
