"""Turns that the reward service was asked about: nothing is kept of them but what an answer must match."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final, NamedTuple, Self

from tunestream.domain.scoring.given import TurnKey
from tunestream.domain.turns.names import NAME_SIZE
from tunestream.events.keys import decode_key, encode_key
from tunestream.events.trajectories import CloseReason

__all__ = ["ASKED", "Asked", "AskedTurns", "asked_prefix", "members_digest"]

ASKED: Final = "asked"
"""First part of the state key of a turn that the reward service was asked about."""

_HEAD: Final = struct.Struct(">qB16s16sH")
_REASONS: Final = tuple(CloseReason)
_DIGEST_SIZE: Final = 16


def members_digest(ids: Iterable[str]) -> bytes:
    """Return a digest of a turn's candidates, in their order."""
    text = "".join(f"{len(name)}:{name}" for name in ids)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_SIZE).digest()


class Asked(NamedTuple):
    """What is kept of a turn while its answer is awaited.

    Attributes:
        at: stream time at which it was complete, ms.
        reason: why it is closed to candidates.
        request_id: of the request, 32 hexadecimal characters.
        members: digest of its candidates.
        unscored: positions of the candidates that had no score.
        config_digest: of the configuration that it opened with.
    """

    at: int
    reason: CloseReason
    request_id: str
    members: bytes
    unscored: frozenset[int]
    config_digest: str

    def to_bytes(self) -> bytes:
        """Return the state record: a turn takes some 100 bytes, and there may be a million."""
        bits = sum(1 << position for position in self.unscored)
        mask = bits.to_bytes(-(-bits.bit_length() // 8), "big")
        request = bytes.fromhex(self.request_id)
        head = _HEAD.pack(self.at, _REASONS.index(self.reason), request, self.members, len(mask))
        return head + mask + self.config_digest.encode()

    @classmethod
    def from_bytes(cls, value: bytes) -> Self:
        """Read a state record."""
        at, reason, request, members, size = _HEAD.unpack_from(value)
        end = _HEAD.size + size
        bits = int.from_bytes(value[_HEAD.size : end], "big")
        unscored = frozenset(number for number in range(bits.bit_length()) if bits >> number & 1)
        return cls(at, _REASONS[reason], request.hex(), members, unscored, value[end:].decode())


class AskedTurns:
    """The turns of a partition that the reward service was asked about, by run and name."""

    def __init__(self) -> None:
        self._runs: dict[str, dict[bytes, bytes]] = {}
        self._latest = -1
        self._in_order = True

    def __len__(self) -> int:
        return sum(map(len, self._runs.values()))

    def find(self, turn: TurnKey) -> Asked | None:
        """Return what is kept of a turn, None when it was not asked about."""
        turns = self._runs.get(turn[0])
        value = None if turns is None else turns.get(_name(turn))
        return None if value is None else Asked.from_bytes(value)

    def add(self, turn: TurnKey, asked: Asked) -> tuple[bytes, bytes]:
        """Keep a turn, and return its state record."""
        value = asked.to_bytes()
        self._note(asked.at)
        self._runs.setdefault(turn[0], {})[_name(turn)] = value
        return _key(turn, asked), value

    def remove(self, turn: TurnKey) -> bytes:
        """Take a turn out and return the key of its state record."""
        turns = self._runs[turn[0]]
        asked = Asked.from_bytes(turns.pop(_name(turn)))
        if not turns:
            del self._runs[turn[0]]
        return _key(turn, asked)

    def restore(self, key: bytes, value: bytes) -> None:
        """Take back a state record."""
        _, run, name, _ = decode_key(key)
        self._note(_completed(value))
        self._runs.setdefault(run, {})[bytes.fromhex(name)] = value

    def counts(self) -> dict[str, int]:
        """Return how many turns of each run wait."""
        return {run: len(turns) for run, turns in self._runs.items()}

    def oldest(self) -> int | None:
        """Return the earliest stream time at which one of them was complete, ms."""
        if not self._in_order:
            for run, turns in self._runs.items():
                self._runs[run] = dict(sorted(turns.items(), key=lambda item: _completed(item[1])))
            self._in_order = True
        return min((_completed(next(iter(turns.values()))) for turns in self._runs.values()), default=None)

    def _note(self, at: int) -> None:
        self._in_order &= at >= self._latest
        self._latest = max(self._latest, at)


def asked_prefix(turn: TurnKey) -> bytes:
    """Return with what the state key of a turn begins, if it was asked about."""
    return encode_key(ASKED, turn[0], _name(turn).hex()) + b"/"


def _completed(value: bytes) -> int:
    at: int = _HEAD.unpack_from(value)[0]
    return at


def _name(turn: TurnKey) -> bytes:
    _, example, turn_id = turn
    text = f"{len(example)}:{example}{turn_id}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=NAME_SIZE).digest()


def _key(turn: TurnKey, asked: Asked) -> bytes:
    return encode_key(ASKED, turn[0], _name(turn).hex(), asked.config_digest)
