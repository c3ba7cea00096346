"""The deadlines of everything that waits on a partition, of all runs."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final, Generic, TypeVar

__all__ = ["Deadlines"]

K = TypeVar("K", bound=tuple[str, ...])

_STALE: Final = 1024


class Deadlines(Generic[K]):
    """A queue by (deadline, key).

    What waits may move its deadline on without a word: an entry that comes up early is put back. Only an
    earlier deadline has to be noted.

    Args:
        deadline_of: key → its deadline now, ms; None when it waits no longer.
    """

    def __init__(self, deadline_of: Callable[[K], int | None]) -> None:
        self._deadline_of = deadline_of
        self._queue: list[tuple[int, K]] = []
        self._noted: dict[K, int] = {}

    def note(self, key: K, deadline: int) -> None:
        """Note a deadline, unless one that is not later stands for the key."""
        noted = self._noted.get(key)
        if noted is None or deadline < noted:
            self._noted[key] = deadline
            heappush(self._queue, (deadline, key))

    def forget(self, key: K) -> None:
        """Drop what waits no longer."""
        self._noted.pop(key, None)
        if len(self._queue) > 2 * len(self._noted) + _STALE:
            self._queue = [(deadline, key) for key, deadline in self._noted.items()]
            heapify(self._queue)

    def next_due(self, time: int) -> tuple[int, K] | None:
        """Return the first key, by (deadline, key), whose deadline is not after ``time``; it stays."""
        queue, noted = self._queue, self._noted
        while queue and queue[0][0] <= time:
            deadline, key = queue[0]
            if noted.get(key) != deadline:
                heappop(queue)
                continue
            now = self._deadline_of(key)
            if now == deadline:
                return deadline, key
            heappop(queue)
            del noted[key]
            if now is not None:
                self.note(key, now)
        return None
