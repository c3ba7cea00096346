"""A finding: what was looked at, how it is, and the remedy where it is not as it should be."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

__all__ = ["Finding", "State"]


class State(StrEnum):
    """How something is."""

    OK = "ok"
    WARN = "warn"  # worth knowing; nothing is wrong yet
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    Attributes:
        name: what was looked at.
        state: how it is.
        text: what was found, one sentence.
        remedy: what to do about it; not empty where the state is ``fail``.
    """

    name: str
    state: State
    text: str
    remedy: str = ""

    @classmethod
    def ok(cls, name: str, text: str) -> Self:
        """Return that all is well."""
        return cls(name, State.OK, text)

    @classmethod
    def warn(cls, name: str, text: str, remedy: str = "") -> Self:
        """Return what is worth knowing."""
        return cls(name, State.WARN, text, remedy)

    @classmethod
    def fail(cls, name: str, text: str, remedy: str) -> Self:
        """Return what is wrong."""
        return cls(name, State.FAIL, text, remedy)
