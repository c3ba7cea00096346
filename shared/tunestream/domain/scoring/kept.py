"""Turns that are kept whole while their scores are awaited: those that people score."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from tunestream.domain.deadlines import Deadlines
from tunestream.domain.scoring.given import TurnKey
from tunestream.domain.scoring.rules import ScoringRules
from tunestream.domain.scoring.turns import WaitingTurn
from tunestream.events.keys import encode_key
from tunestream.events.trajectories import CloseReason

__all__ = ["KEPT", "Kept", "KeptTurns", "kept_key"]

KEPT: Final = "kept"
"""First part of the state key of a turn that is closed to candidates and kept for its scores."""

_END: Final = sys.maxsize


T = TypeVar("T", bound=WaitingTurn)


@dataclass(slots=True)
class Kept(Generic[T]):
    """A turn that is kept.

    Attributes:
        turn: the turn.
        rules: of its configuration.
        reason: why it is closed to candidates.
        at: stream time at which it was complete, ms.
        missing: ids of the candidates that nobody has scored.
    """

    turn: T
    rules: ScoringRules
    reason: CloseReason
    at: int
    missing: set[str]

    @property
    def deadline(self) -> int:
        """Stream time at which it closes with the scores that it has, ms."""
        return self.at + self.rules.timeout_ms


class KeptTurns(Generic[T]):
    """The turns of a partition that are kept, their deadlines and their sizes."""

    def __init__(self) -> None:
        self._turns: dict[TurnKey, Kept[T]] = {}
        self._bytes: Counter[str] = Counter()
        self._due = Deadlines[TurnKey](self._deadline)
        self._orders: dict[str, Deadlines[TurnKey]] = {}

    def __len__(self) -> int:
        return len(self._turns)

    def __iter__(self) -> Iterator[TurnKey]:
        return iter(self._turns)

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return self._bytes.total()

    def find(self, turn: TurnKey) -> Kept[T] | None:
        """Return a turn, None when it is not kept."""
        return self._turns.get(turn)

    def add(self, turn: TurnKey, kept: Kept[T]) -> None:
        """Keep a turn."""
        self._turns[turn] = kept
        self._bytes[turn[0]] += kept.turn.size
        self._due.note(turn, kept.deadline)
        order = self._orders.setdefault(turn[0], Deadlines[TurnKey](self._completed))
        order.note(turn, kept.at)

    def remove(self, turn: TurnKey) -> Kept[T]:
        """Take a turn out."""
        run, kept = turn[0], self._turns.pop(turn)
        self._bytes[run] -= kept.turn.size
        self._due.forget(turn)
        self._orders[run].forget(turn)
        if not self._bytes[run]:
            del self._bytes[run], self._orders[run]
        return kept

    def next_due(self, time: int) -> tuple[int, TurnKey] | None:
        """Return the first turn, by (deadline, key), whose deadline is not after ``time``."""
        return self._due.next_due(time)

    def excess(self, run: str, most_bytes: int) -> TurnKey | None:
        """Return the run's oldest turn while the run has more than so many bytes."""
        if self._bytes[run] <= most_bytes:
            return None
        first = self._orders[run].next_due(_END)
        return None if first is None else first[1]

    def oldest(self) -> int | None:
        """Return the earliest stream time at which one of them was complete, ms."""
        firsts = [order.next_due(_END) for order in self._orders.values()]
        return min((first[0] for first in firsts if first is not None), default=None)

    def _deadline(self, turn: TurnKey) -> int | None:
        kept = self._turns.get(turn)
        return None if kept is None else kept.deadline

    def _completed(self, turn: TurnKey) -> int | None:
        kept = self._turns.get(turn)
        return None if kept is None else kept.at


def kept_key(turn: TurnKey, config_digest: str) -> bytes:
    """Return the state key of a turn that is kept."""
    run, example, turn_id = turn
    return encode_key(KEPT, run, example, f"={turn_id}", config_digest)
