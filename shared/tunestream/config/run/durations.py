"""Lengths of time in a run's file: ``30s``, ``10m``, ``1h30m``, ``250ms`` or a number of seconds."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Final

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

__all__ = ["Duration", "format_duration", "milliseconds", "parse_duration"]

_UNITS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_PART: Final = r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)"
_TEXT: Final = re.compile(rf"(?:{_PART}\s*)+")
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")
_LONGEST_MS: Final = 366 * _UNITS["d"]
_HOW: Final = "write a length of time such as 30s, 10m, 1h30m or 250ms, or a number of seconds"


def parse_duration(value: object) -> timedelta:
    """Read a length of time.

    Args:
        value: text with units, a number of seconds (as a number or as text), or a timedelta.

    Raises:
        ValueError: when it is none of these, not positive, above 366 days or finer than a millisecond.
    """
    count = _milliseconds(value)
    if not 0 < count <= _LONGEST_MS:
        raise ValueError("must be longer than 0 and at most 366 days")
    if count != int(count):
        raise ValueError("must be whole milliseconds")
    return timedelta(milliseconds=int(count))


def _milliseconds(value: object) -> Decimal:
    if isinstance(value, timedelta):
        return Decimal(value // timedelta(microseconds=1)) / 1000
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(_HOW)  # noqa: TRY004 - pydantic reports ValueError only
    text = str(value).strip()
    if _TEXT.fullmatch(text):
        return sum((Decimal(number) * _UNITS[unit] for number, unit in re.findall(_PART, text)), Decimal(0))
    if _NUMBER.fullmatch(text):
        return Decimal(text) * 1000
    raise ValueError(_HOW)


def milliseconds(duration: timedelta) -> int:
    """Return a length of time in whole milliseconds, the unit of stream time."""
    return duration // timedelta(milliseconds=1)


def format_duration(duration: timedelta) -> str:
    """Write a length of time in the largest unit that divides it: the one canonical spelling."""
    count = milliseconds(duration)
    unit = next(unit for unit, size in _UNITS.items() if count % size == 0)
    return f"{count // _UNITS[unit]}{unit}"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "type": ["string", "number"],
            "description": "30s, 10m, 1h30m, 250ms, or a number of seconds",
            "exclusiveMinimum": 0,
        }
    ),
]
