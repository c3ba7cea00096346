"""Names of turns that were closed a while ago, in 24 bytes each: that they were, and nothing else."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

__all__ = ["NAME_SIZE", "Names"]

NAME_SIZE: Final = 12  # 96 bits: no collision to be expected among the turns of a partition
_EMPTY: Final = bytes(NAME_SIZE)
_FIRST_SLOTS: Final = 1024
_PART_NAMES: Final = 4096
_PART_MS: Final = 10_000


@dataclass(slots=True)
class _Part:
    """Names that are forgotten together.

    Attributes:
        began: when the first of them was closed, ms.
        at: when the last of them was closed, ms.
        until: when it is forgotten, ms.
        names: one after another.
    """

    began: int
    at: int
    until: int
    names: bytearray = field(default_factory=bytearray)


class Names:
    """A set of names, which are forgotten part by part in the order of their coming.

    Python's own set takes five times the memory. This is a hash table with linear probing in one array; every
    name is in it and in its part.
    """

    __slots__ = ("_count", "_parts", "_slots")

    def __init__(self) -> None:
        self._slots = bytearray(_FIRST_SLOTS * NAME_SIZE)
        self._parts: deque[_Part] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, name: bytes) -> bool:
        return bool(self._count) and self._held(self._find(name)) == name

    def add(self, name: bytes, at: int, until: int) -> None:
        """Add a name that was closed at ``at`` and is forgotten at ``until``, ms."""
        if 3 * (self._count + 1) * NAME_SIZE > 2 * len(self._slots):
            self._grow()
        self._put(self._find(name), name)
        self._count += 1
        last = self._parts[-1] if self._parts else None
        if last is None or len(last.names) >= _PART_NAMES * NAME_SIZE or at - last.began > _PART_MS:
            last = _Part(at, at, until)
            self._parts.append(last)
        last.names += name
        last.at, last.until = at, max(last.until, until)

    def oldest(self) -> tuple[int, int] | None:
        """Return when the last name of the oldest part was closed, and until when it is kept, ms."""
        return (self._parts[0].at, self._parts[0].until) if self._parts else None

    def forget(self) -> Iterator[bytes]:
        """Drop the oldest part and yield its names."""
        names = bytes(self._parts.popleft().names)
        for start in range(0, len(names), NAME_SIZE):
            name = names[start : start + NAME_SIZE]
            self._remove(name)
            yield name

    def _home(self, name: bytes | bytearray) -> int:
        return int.from_bytes(name[:6]) % (len(self._slots) // NAME_SIZE)

    def _after(self, slot: int) -> int:
        return (slot + 1) % (len(self._slots) // NAME_SIZE)

    def _held(self, slot: int) -> bytearray:
        return self._slots[slot * NAME_SIZE : (slot + 1) * NAME_SIZE]

    def _put(self, slot: int, name: bytes | bytearray) -> None:
        self._slots[slot * NAME_SIZE : (slot + 1) * NAME_SIZE] = name

    def _find(self, name: bytes | bytearray) -> int:
        """Return the slot that holds a name, or the empty one where it would be."""
        slot = self._home(name)
        while (held := self._held(slot)) != name and held != _EMPTY:
            slot = self._after(slot)
        return slot

    def _remove(self, name: bytes) -> None:
        """Empty a name's slot, and move up what was pushed past it."""
        hole, size = self._find(name), len(self._slots) // NAME_SIZE
        self._count -= 1
        slot = self._after(hole)
        while (held := self._held(slot)) != _EMPTY:
            if (slot - self._home(held)) % size >= (slot - hole) % size:
                self._put(hole, held)
                hole = slot
            slot = self._after(slot)
        self._put(hole, _EMPTY)

    def _grow(self) -> None:
        before = self._slots
        self._slots = bytearray(2 * len(before))
        for start in range(0, len(before), NAME_SIZE):
            name = before[start : start + NAME_SIZE]
            if name != _EMPTY:
                self._put(self._find(name), name)
