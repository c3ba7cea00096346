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
        moved: whether its task has handled records.
        waits: what it waits for, where that is known.
        fault: why its fetch cannot be read, None when it can.
    """

    place: Place
    opened: bool
    position: int | None
    stable: int | None
    high: int | None
    moved: bool = False
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


@dataclass(slots=True)
class _Record:
    """What is known of a partition: since when it stands still, and for how long without an explanation."""

    position: int | None = None
    moved: bool = False
    at: int | None = None
    seconds: float | None = None
    unexplained: float | None = None
    reason: str = ""


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
        record.moved |= seen.moved
        if seen.opened and seen.position is not None:
            record.moved |= record.position not in {None, seen.position}
            record.position = seen.position
        # While it is not open, the client's position means nothing: a fault has thrown back what was fetched.
        position = seen.position if seen.opened else record.at
        self._count(record, position, _problem(seen), elapsed)
        if record.seconds is None or record.seconds < self._deadline:
            return None
        unexplained = record.unexplained or 0.0
        explained = unexplained < self._deadline
        dead = record.moved and unexplained >= _LIVENESS_DEADLINES * self._deadline
        return Stall(seen.place, position, record.seconds, record.reason, explained, record.moved, dead)

    def _count(self, record: _Record, position: int | None, problem: _Problem | None, elapsed: float) -> None:
        """Count on while the partition stays where it is, with a problem.

        A fault that is retried leaves the partition open for moments: they take nothing from its count, and
        the explanation stays until there was none for a whole deadline.
        """
        if problem is None or position != record.at:
            record.seconds = record.unexplained = None
        record.at = position
        if problem is None:
            return
        record.seconds = 0.0 if record.seconds is None else record.seconds + elapsed
        if problem.explained:
            record.unexplained = None
        else:
            record.unexplained = 0.0 if record.unexplained is None else record.unexplained + elapsed
        lasting = record.unexplained is not None and record.unexplained >= self._deadline
        if problem.explained or lasting or record.seconds == 0.0:
            record.reason = problem.reason


def _problem(seen: Sighting) -> _Problem | None:
    """Return what is wrong with a partition at this moment, None when nothing is."""
    if not seen.opened:
        return _Problem(seen.waits or "it was assigned and nothing opens it", seen.waits is not None)
    if seen.fault is not None:
        reason = f"what is there cannot be read: {seen.fault}; `tunestream dlq skip` passes it"
        return _Problem(reason, False)
    if seen.stable is None or seen.high is None:
        return _Problem("the broker does not answer", True)
    if seen.position is None:
        return _Problem("where to read is not known", False)
    problem = _standing(seen.position, seen.stable, seen.high)
    if problem is None or seen.waits is None:
        return problem
    return _Problem(f"{seen.waits}, and {problem.reason}", True)


def _standing(position: int, stable: int, high: int) -> _Problem | None:
    """Return what is wrong with a partition that stays at a position, given its two ends."""
    if position > high:
        return _Problem(f"the topic ends at {high}", False)
    if position < stable:
        return _Problem(f"{stable - position} offsets wait, up to {stable}", False)
    if position < high:
        reason = f"an open transaction of a producer at offset {stable} keeps back what follows it"
        return _Problem(reason, True)
    return None
