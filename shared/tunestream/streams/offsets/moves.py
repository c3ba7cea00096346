"""Inputs that did not go on where their group's offset stands: counted, and shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from aiokafka import TopicPartition

from tunestream.streams.watch import metrics

__all__ = ["Move", "Moves"]

Reason = Literal["missing", "from_state", "moved"]
_REASONS: Final[tuple[Reason, ...]] = ("missing", "from_state", "moved")


class Move(NamedTuple):
    """An input that began elsewhere.

    Attributes:
        place: topic, with the prefix, and partition.
        reason: ``missing``: neither group nor state had a position; ``from_state``: the state's counts;
            ``moved``: the topic holds something else there by now.
        what: what happened, for people; None where that is as it should be.
    """

    place: TopicPartition
    reason: Reason
    what: str | None = None


class Moves:
    """The moves that a process has made."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._shown: dict[TopicPartition, str] = {}

    def watch(self, places: Iterable[TopicPartition]) -> None:
        """Have the counters of inputs from the start, with 0."""
        for place in places:
            for reason in _REASONS:
                metrics.MOVES.labels(self._service, *place, reason)

    def report(self, moves: Iterable[Move]) -> None:
        """Count moves, and show from now on those that should not have been."""
        for move in moves:
            metrics.MOVES.labels(self._service, *move.place, move.reason).inc()
            if move.what is not None:
                self._shown[move.place] = move.what

    def warnings(self) -> list[str]:
        """Return a line for the latest move of each partition."""
        return [
            f"partition {place.partition} of {place.topic}: {what}" for place, what in self._shown.items()
        ]
