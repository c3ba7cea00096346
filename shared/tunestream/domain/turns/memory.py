"""Which turns and episodes of a run were closed lately, so that nothing counts twice.

The latest ones are kept whole: a turn is a 12-byte name and one packed record. Of older ones the name is
left, which shows that the turn was closed, but not with which candidates.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple
from zlib import crc32

from tunestream.domain.turns.names import NAME_SIZE, Names

__all__ = ["Closed", "Memory", "memory_name", "name_mark"]

_TIMES = struct.Struct(">qqq")
_MEMBER = struct.Struct(">II")
# Follows the members whose checksums are those of their content; without it they are those of whole bodies.
_OF_CONTENT = b"c"
# A turn is named when it opens and when it closes, which is mostly soon.
_NAMES = 256


@lru_cache(maxsize=_NAMES)
def memory_name(kind: str, example_id: str, member: str) -> bytes:
    """Name a closed turn or episode of a run in 12 bytes."""
    text = f"{kind}{len(example_id)}:{example_id}{member}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=NAME_SIZE).digest()


def name_mark(member_id: str) -> int:
    """Return the checksum of a member's id."""
    return crc32(member_id.encode("utf-8", "surrogatepass"))


class Closed(NamedTuple):
    """One closed turn, as it is kept in memory and in the state; in the state, one that faded has no members.

    ``members`` packs the checksums of each member's id and of its content (up to format 2, of its whole
    body). Were two ids of a turn to collide, a late candidate would be refused as a contradiction.

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
        return self.marks().get(name_mark(member_id))

    def marks(self) -> dict[int, int]:
        """Return the fingerprints of the members by :func:`name_mark` of their ids."""
        members = self.members[:-1] if self.of_content else self.members
        return dict(_MEMBER.iter_unpack(members))

    @property
    def of_content(self) -> bool:
        """Whether the fingerprints are those of contents, not of bodies."""
        return len(self.members) % _MEMBER.size == 1

    def to_bytes(self) -> bytes:
        """Return the state record."""
        return _TIMES.pack(self.number, self.at, self.until) + self.members

    @classmethod
    def from_bytes(cls, value: bytes) -> Closed:
        """Read a state record."""
        number, at, until = _TIMES.unpack_from(value)
        return cls(number, at, until, value[_TIMES.size :])


def _pack(fingerprints: Mapping[str, int], *, of_content: bool) -> bytes:
    checksums: list[int] = []
    for name, mark in fingerprints.items():
        checksums += (name_mark(name), mark)
    packed = struct.pack(f">{len(checksums)}I", *checksums)
    return packed + _OF_CONTENT if of_content else packed


class Memory:
    """The closed turns and episodes of one run. They fade and are forgotten in the order of closing."""

    __slots__ = ("_faded", "_next_number", "_order", "_whole")

    def __init__(self) -> None:
        self._whole: dict[bytes, bytes] = {}
        self._order: deque[bytes] = deque()
        self._faded = Names()
        self._next_number = 0

    @property
    def whole(self) -> int:
        """How many are kept whole."""
        return len(self._whole)

    @property
    def faded(self) -> int:
        """Of how many the name is left."""
        return len(self._faded)

    def get(self, name: bytes) -> Closed | None:
        """Return what is remembered of a turn or an episode, unless it is nothing or its name."""
        record = self._whole.get(name)
        return None if record is None else Closed.from_bytes(record)

    def has_faded(self, name: bytes) -> bool:
        """Return whether nothing but the name is left of a turn or an episode."""
        return name in self._faded

    def add(
        self, name: bytes, at: int, until: int, fingerprints: Mapping[str, int], *, of_content: bool
    ) -> bytes:
        """Remember a turn or an episode, given as fingerprint by member id; return its state record."""
        number = self._next_number
        record = _TIMES.pack(number, at, until) + _pack(fingerprints, of_content=of_content)
        self._insert(name, record, number)
        return record

    def insert(self, name: bytes, record: bytes) -> None:
        """Take back a state record, in any order; :meth:`settle` must follow."""
        self._insert(name, record, Closed.from_bytes(record).number)

    def _insert(self, name: bytes, record: bytes, number: int) -> None:
        self._whole[name] = record
        self._order.append(name)
        self._next_number = max(self._next_number, number + 1)

    def settle(self) -> int:
        """Put the records that were taken back in the order of closing; return how many of them had faded."""
        self._order = deque(sorted(self._order, key=lambda name: Closed.from_bytes(self._whole[name])))
        faded = 0
        while self._order and len(self._whole[self._order[0]]) == _TIMES.size:
            self.fade()
            faded += 1
        return faded

    def oldest_whole(self) -> Closed | None:
        """Return the one that fades next."""
        return Closed.from_bytes(self._whole[self._order[0]]) if self._order else None

    def oldest(self) -> tuple[int, int] | None:
        """Return when what is forgotten next was closed, and until when it is kept, ms."""
        whole = self.oldest_whole()
        return self._faded.oldest() or (None if whole is None else (whole.at, whole.until))

    def fade(self) -> tuple[bytes, bytes]:
        """Keep no more than the name of the oldest one that is whole; return it and its state record."""
        name = self._order.popleft()
        closed = Closed.from_bytes(self._whole.pop(name))
        self._faded.add(name, closed.at, closed.until)
        return name, closed._replace(members=b"").to_bytes()

    def forget(self) -> Iterable[bytes]:
        """Drop what is oldest and return the names."""
        if len(self._faded):
            return list(self._faded.forget())
        name = self._order.popleft()
        del self._whole[name]
        return [name]
