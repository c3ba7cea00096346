"""How far a restore is, in numbers and in words."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

__all__ = ["Progress"]


@dataclass(slots=True)
class Progress:
    """Where the reading of a changelog partition stands.

    Attributes:
        topic: the changelog's name, with the prefix.
        done: offsets that were passed, of those that are to be read.
        total: offsets that are to be read.
        began: when this reading began, seconds since the epoch: the broker deletes by the calendar too.
        started: the same, monotonic, seconds.
        moved: when it last went on, monotonic, seconds.
    """

    topic: str
    done: int = 0
    total: int = 0
    began: float = field(default_factory=time.time)
    started: float = field(default_factory=time.monotonic)
    moved: float = field(default_factory=time.monotonic)

    def reach(self, done: int) -> None:
        """Note how many offsets were passed."""
        if done > self.done:
            self.done, self.moved = done, time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since this reading began."""
        return time.time() - self.began

    @property
    def took(self) -> float:
        """Seconds that this machine was awake since then."""
        return time.monotonic() - self.started

    @property
    def silent(self) -> float:
        """Seconds since it last went on."""
        return time.monotonic() - self.moved

    def __str__(self) -> str:
        """Return it in words, for health and logs."""
        return f"restoring, {self.done:,} of {self.total:,} records of {self.topic}, {self.age:.0f} s"
