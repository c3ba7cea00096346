"""Whether every assigned partition gets on, and if not, why not: the judgement, without I/O or a clock.

A stall that has an explanation (a fault being retried, an opening, the broker away, an open transaction of
a producer) makes a service unready, and a restart would not help. One without makes it not live, if the
position moved before: what never moved in this process stands still after a restart as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["Judge", "Place", "Sighting", "Stall"]

# A stall without an explanation has this many deadlines to end, before a restart is asked for.
_LIVENESS_DEADLINES: Final = 4


class Place(NamedTuple):
    """A partition: of a topic, as the broker calls it."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Sighting:
    """One assigned partition as it is at one moment.

    Attributes:
        place: which.
        opened: whether its task is open.
        position: the offset that is fetched next, None when it is being found out. It passes the marks of
            transactions and aborted records, which are never handled.
        stable: the end of what is committed (the last stable offset), None when the broker is away.
        high: the end of what was written (the high watermark), None when the broker is away.
        waits: what it waits for, where that is known.
        fault: why its fetch cannot be read, None when it can.
    """

    place: Place
    opened: bool
    position: int | None
    stable: int | None
    high: int | None
    waits: str | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Stall:
    """A partition that stands still longer than the deadline.

    Attributes:
        place: which.
        offset: where it stands, None when that is not known.
        seconds: for how long, counted in looks.
        reason: why, as far as is known.
        explained: whether a restart would not help.
        moved: whether the position moved since this process started.
        dead: whether a restart is asked for.
    """

    place: Place
    offset: int | None
    seconds: float
    reason: str
    explained: bool
    moved: bool
    dead: bool

    def __str__(self) -> str:
        """Return it in words, for health."""
        where = "" if self.offset is None else f" at offset {self.offset}"
        return (
            f"partition {self.place.partition} of {self.place.topic} stands still{where} for "
            f"{self.seconds:.0f} s: {self.reason}"
        )


class _Problem(NamedTuple):
    reason: str
    explained: bool
    # Stands still while this stays the same.
    at: tuple[object, ...]


@dataclass(slots=True)
class _Record:
    position: int | None = None
    moved: bool = False
    at: tuple[object, ...] | None = None
    seconds: float = 0.0


class Judge:
    """Counts for how long each partition stands still.

    Args:
        deadline: seconds after which that is a stall.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._records: dict[Place, _Record] = {}

    def look(self, sightings: Sequence[Sighting], elapsed: float) -> list[Stall]:
        """Return the stalls, given the partitions as they are now.

        Args:
            sightings: of all assigned partitions; others are forgotten.
            elapsed: seconds since the last look, by count: a machine that slept has not stalled.
        """
        known = self._records
        self._records = {seen.place: known.get(seen.place, _Record()) for seen in sightings}
        found = [self._one(seen, self._records[seen.place], elapsed) for seen in sightings]
        return [stall for stall in found if stall is not None]

    def _one(self, seen: Sighting, record: _Record, elapsed: float) -> Stall | None:
        if seen.opened and seen.position is not None:
            record.moved |= record.position not in {None, seen.position}
            record.position = seen.position
        problem = _problem(seen)
        at = None if problem is None else (problem.explained, *problem.at)
        record.seconds = record.seconds + elapsed if at is not None and at == record.at else 0.0
        record.at = at
        if problem is None or record.seconds < self._deadline:
            return None
        dead = (
            not problem.explained and record.moved and record.seconds >= _LIVENESS_DEADLINES * self._deadline
        )
        return Stall(
            seen.place, seen.position, record.seconds, problem.reason, problem.explained, record.moved, dead
        )


def _problem(seen: Sighting) -> _Problem | None:
    """Return what is wrong with a partition at this moment, None when nothing is."""
    if not seen.opened:
        return _Problem(
            seen.waits or "it was assigned and nothing opens it", seen.waits is not None, ("opening",)
        )
    if seen.fault is not None:
        reason = f"what is there cannot be read: {seen.fault}; `tunestream dlq skip` passes it"
        return _Problem(reason, False, ("fault", seen.position))
    if seen.stable is None or seen.high is None:
        return _Problem("the broker does not answer", True, ("away",))
    if seen.position is None:
        return _Problem("where to read is not known", False, ("nowhere",))
    return _standing(seen.position, seen.stable, seen.high)


def _standing(position: int, stable: int, high: int) -> _Problem | None:
    """Return what is wrong with a partition that stays at a position, given its two ends."""
    if position > high:
        return _Problem(f"the topic ends at {high}", False, ("beyond", position))
    if position < stable:
        return _Problem(f"{stable - position} offsets wait, up to {stable}", False, ("standing", position))
    if position < high:
        reason = f"an open transaction of a producer at offset {stable} keeps back what follows it"
        return _Problem(reason, True, ("transaction", stable))
    return None
