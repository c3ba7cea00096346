"""The state of a partition: what its handler holds, what the changelog holds, how far its inputs are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tunestream.streams.changelog.values import Reached
from tunestream.streams.tasks.handler import Handler

__all__ = ["Dormant", "State"]


@dataclass(slots=True)
class State:
    """The state of a partition.

    Attributes:
        handler: holds the service's part of it.
        logged: keys that the changelog holds.
        reached: how far each input was handled, by catalogue name.
        skipped: why records of the changelog were passed over, by key.
    """

    handler: Handler
    logged: set[bytes] = field(default_factory=set)
    reached: dict[str, Reached] = field(default_factory=dict)
    skipped: Mapping[bytes, str] = field(default_factory=dict)

    def note_logged(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Note that the changelog holds changes; None is a tombstone."""
        for key, value in changes.items():
            if value is None:
                self.logged.discard(key)
            else:
                self.logged.add(key)


@dataclass(frozen=True, slots=True)
class Dormant:
    """The state of a partition that was given back: good while nobody else wrote."""

    state: State
    changelog_end: int | None
