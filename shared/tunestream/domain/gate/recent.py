"""The groups that were collected lately: one that comes again is left out."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from tunestream.domain.effects import Effects
from tunestream.domain.gate.bodies import Arrival
from tunestream.events.keys import encode_key

__all__ = ["RecentGroups", "name_of"]

_BYTES: Final = 8  # of a name; two of a hundred thousand groups share one in 10**9 partitions
_MOST: Final = 100_000  # groups of closed windows that are remembered; some 10 MB


class RecentGroups:
    """The groups of a partition's open windows, and those of the latest ones that were closed.

    State keys: ``recent/run/digest/epoch`` holds the names of a closed window's groups behind its number
    among all windows of the partition, eight bytes each.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._held: set[bytes] = set()
        self._closed: dict[bytes, list[bytes]] = {}  # state key → its number and names, the oldest first
        self._remembered = 0
        self._next = 0
        self._in_order = True

    def __contains__(self, name: bytes) -> bool:
        """Return whether a group was collected lately."""
        return name in self._held

    def add(self, name: bytes) -> None:
        """Take note of a group that goes into a window."""
        self._held.add(name)

    def restore(self, key: bytes, value: bytes) -> None:
        """Take back a record of the state; the order does not matter."""
        number, *names = (value[at : at + _BYTES] for at in range(0, len(value), _BYTES))
        self._closed[key] = [number, *names]
        self._held.update(names)
        self._remembered += len(names)
        self._next = max(self._next, int.from_bytes(number) + 1)
        self._in_order = False

    def close(
        self, place: tuple[str, str, int], names: Iterable[bytes], effects: Effects, *, write: bool
    ) -> None:
        """Remember the groups of a window that is closed, and forget the oldest ones beyond the bound.

        Args:
            place: run, digest and number of the window.
            names: of its groups.
            effects: receives the state's changes.
            write: whether the state holds them.
        """
        if not self._in_order:
            self._closed = dict(sorted(self._closed.items(), key=lambda item: item[1][0]))
            self._in_order = True
        run_id, config_digest, epoch = place
        key = encode_key("recent", run_id, config_digest, str(epoch))
        self._closed[key] = record = [self._next.to_bytes(_BYTES), *names]
        self._next += 1
        self._remembered += len(record) - 1
        if write:
            effects.put(key, b"".join(record))
        while self._remembered > self._most and len(self._closed) > 1:
            oldest = next(iter(self._closed))
            _, *forgotten = self._closed.pop(oldest)
            self._held.difference_update(forgotten)
            self._remembered -= len(forgotten)
            effects.delete(oldest)


def name_of(group: Arrival) -> bytes:
    """Return the name under which a group is remembered."""
    return blake2b(f"{group.run_id}\0{group.group_id}".encode(), digest_size=_BYTES).digest()
