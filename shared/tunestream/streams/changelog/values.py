"""What stands in a changelog: values with a version byte, and where the inputs stand.

From format 2 on a value begins with a byte that defines how it is read. No value of format 1 begins with
it: those begin with a digit, a bracket of JSON, white space, or the first byte of a small number, which is 0.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from tunestream.events.runs import NewerFormat

__all__ = [
    "POSITIONS_KEY",
    "VERSIONED",
    "Reached",
    "decode_positions",
    "encode_positions",
    "unwrap",
    "wrap",
]

VERSIONED: Final = 2
"""The first format whose changelogs hold version bytes and positions."""

POSITIONS_KEY: Final = b"\x00positions"
"""Holds where the inputs stand. No handler makes this key: theirs are percent-encoded text."""

_VERSION: Final = 2
_VERSIONS: Final = range(1, 9)  # control characters that no value of format 1 begins with


class Reached(NamedTuple):
    """How far an input was handled.

    Attributes:
        offset: of the next record.
        time: when the broker took the last one, ms; None when that is not known.
    """

    offset: int
    time: int | None = None

    @classmethod
    def after(cls, offset: int, time: int | None) -> Reached:
        """Return where an input stands after a record; a time before the epoch is none: a damaged batch's."""
        return cls(offset + 1, time if time is not None and time >= 0 else None)


def wrap(value: bytes | None, number: int) -> bytes | None:
    """Return a handler's value as format ``number`` holds it; None, a tombstone, stays None."""
    if value is None or number < VERSIONED:
        return value
    return bytes((_VERSION,)) + value


def unwrap(value: bytes) -> bytes:
    """Return a value as the handler wrote it, in any format.

    Raises:
        NewerFormat: when a later release wrote it.
    """
    first = value[:1]
    if not first or first[0] not in _VERSIONS:
        return value
    if first[0] != _VERSION:
        raise NewerFormat(
            f"the state holds values of version {first[0]}, and this release reads versions up to "
            f"{_VERSION}: install the release that wrote them, or a later one"
        )
    return value[1:]


def encode_positions(reached: dict[str, Reached]) -> bytes:
    """Return the value of :data:`POSITIONS_KEY` for inputs by catalogue name."""
    return orjson.dumps({name: one._asdict() for name, one in reached.items()})


def decode_positions(value: bytes) -> dict[str, Reached]:
    """Read the value of :data:`POSITIONS_KEY`; what a later release added is left out."""
    found: dict[str, Any] = orjson.loads(value)
    known = {name: one for name, one in found.items() if isinstance(one, dict) and "offset" in one}
    return {name: Reached(one["offset"], one.get("time")) for name, one in known.items()}
