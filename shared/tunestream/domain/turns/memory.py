"""Which turns and episodes of a run were closed lately, so that nothing counts twice.

At a hundred thousand turns a partition every byte counts: a turn is a 12-byte name and one packed record.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple
from zlib import crc32

__all__ = ["Closed", "Memory", "fingerprint", "memory_name"]

_TIMES = struct.Struct(">qqq")
_MEMBER = struct.Struct(">II")
_NAME_SIZE = 12  # 96 bits: no collision to be expected among the turns of a partition
_NEVER = 1 << 62


def fingerprint(body: bytes) -> int:
    """Return a checksum by which an identical repeat differs from a contradictory one."""
    return crc32(body)


def memory_name(kind: str, example_id: str, member: str) -> bytes:
    """Name a closed turn or episode of a run in 12 bytes."""
    text = f"{kind}{len(example_id)}:{example_id}{member}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_NAME_SIZE).digest()


class Closed(NamedTuple):
    """One closed turn, as it is kept in memory and in the state.

    ``members`` packs the checksums of each member's id and body. Were two ids of a turn to collide, a late
    candidate would be refused as a contradiction.

    Attributes:
        number: how many turns of the run were closed before it.
        at: when it was closed, stream time in ms.
        until: when it is forgotten, stream time in ms.
    """

    number: int
    at: int
    until: int
    members: bytes

    def recall(self, member_id: str) -> int | None:
        """Return the fingerprint of a member, or None when it was none."""
        wanted = crc32(member_id.encode("utf-8", "surrogatepass"))
        return next((mark for name, mark in _MEMBER.iter_unpack(self.members) if name == wanted), None)

    def to_bytes(self) -> bytes:
        """Return the state record."""
        return _TIMES.pack(self.number, self.at, self.until) + self.members

    @classmethod
    def from_bytes(cls, value: bytes) -> Closed:
        """Read a state record."""
        number, at, until = _TIMES.unpack_from(value)
        return cls(number, at, until, value[_TIMES.size :])


def _pack(fingerprints: Mapping[str, int]) -> bytes:
    return b"".join(
        _MEMBER.pack(crc32(name.encode("utf-8", "surrogatepass")), mark)
        for name, mark in fingerprints.items()
    )


class Memory:
    """The closed turns and episodes of one run. They are forgotten in the order of closing.

    Attributes:
        next_until: when the next one is forgotten, stream time in ms.
    """

    __slots__ = ("_closed", "_next_number", "_order", "next_until")

    def __init__(self) -> None:
        self._closed: dict[bytes, bytes] = {}
        self._order: deque[bytes] = deque()
        self._next_number = 0
        self.next_until = _NEVER

    def __len__(self) -> int:
        return len(self._closed)

    def get(self, name: bytes) -> Closed | None:
        """Return what is remembered of a turn or an episode."""
        record = self._closed.get(name)
        return None if record is None else Closed.from_bytes(record)

    def add(self, name: bytes, at: int, until: int, fingerprints: Mapping[str, int]) -> bytes:
        """Remember a turn or an episode, given as fingerprint by member id; return its state record."""
        record = Closed(self._next_number, at, until, _pack(fingerprints)).to_bytes()
        self.insert(name, record)
        if len(self._order) == 1:
            self.next_until = until
        return record

    def insert(self, name: bytes, record: bytes) -> None:
        """Take back a state record, in any order; :meth:`settle` must follow."""
        self._closed[name] = record
        self._order.append(name)
        self._next_number = max(self._next_number, Closed.from_bytes(record).number + 1)

    def settle(self) -> None:
        """Put the records that were taken back in the order of closing."""
        self._order = deque(sorted(self._order, key=lambda name: Closed.from_bytes(self._closed[name])))
        self._note_next()

    def oldest(self) -> Closed | None:
        """Return the one that is forgotten next."""
        return Closed.from_bytes(self._closed[self._order[0]]) if self._order else None

    def forget(self) -> tuple[bytes, Closed]:
        """Drop the oldest one and return its name and what it was."""
        name = self._order.popleft()
        closed = Closed.from_bytes(self._closed.pop(name))
        self._note_next()
        return name, closed

    def _note_next(self) -> None:
        oldest = self.oldest()
        self.next_until = _NEVER if oldest is None else oldest.until
