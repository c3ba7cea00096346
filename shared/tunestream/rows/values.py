"""What a value may be: nested to a bounded depth, finite, and text that can be written as UTF-8."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tunestream.events.base import NESTING_LIMIT
from tunestream.rows.errors import Place, RowError

__all__ = [
    "CR_ALONE",
    "check_depth",
    "clean",
    "decoder",
    "fault_of",
    "find_surrogate",
    "json_value",
    "kind_of",
    "not_utf8",
]

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class _Repeated(ValueError):
    """An object has a key twice; the message is the key."""


def json_value(text: bytes, place: Place, *, keep_numbers: bool = False) -> Any:
    """Parse one value of JSON.

    Args:
        text: UTF-8.
        place: named by errors.
        keep_numbers: whether NaN and infinity stay what they are; otherwise they are missing, None.

    Raises:
        RowError: when it is no JSON, repeats a key, or is nested too deeply.
    """
    try:
        return decoder(keep_numbers=keep_numbers).decode(_decoded(text.rstrip(), place))
    except (ValueError, RecursionError) as error:
        raise fault_of(error, place) from error


def fault_of(error: Exception, place: Place) -> RowError:
    """Return what an error of a :func:`decoder` means."""
    if isinstance(error, RowError):
        return error
    if isinstance(error, _Repeated):
        return RowError(place, "is there twice in one object; keep one", field=str(error))
    if isinstance(error, RecursionError):
        return RowError(place, f"is nested deeper than {NESTING_LIMIT} levels")
    if not isinstance(error, json.JSONDecodeError):  # the only other one
        return RowError(place, f"holds an integer of more than {sys.get_int_max_str_digits():,} digits")
    if error.doc[: error.pos].rstrip(" \t").endswith("\r"):
        return RowError(place, CR_ALONE)
    return RowError(place, f"is not JSON: {error.msg} at column {error.colno}")


def clean(value: Any, place: Place, *, field: str = "", depth: int = 0) -> Any:
    """Return a value with None for each number that is not finite.

    Raises:
        RowError: when it is nested too deeply.
    """
    if type(value) is str:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if not isinstance(value, dict | list):
        return value
    if depth >= NESTING_LIMIT:
        raise RowError(place, f"is nested deeper than {NESTING_LIMIT} levels", field=field)
    if isinstance(value, list):
        return [clean(each, place, field=field, depth=depth + 1) for each in value]
    return {
        name: clean(each, place, field=field or str(name), depth=depth + 1) for name, each in value.items()
    }


def check_depth(value: object, place: Place, *, depth: int = 0) -> None:
    """Make sure that a value is not nested too deeply.

    Raises:
        RowError: when it is.
    """
    if not isinstance(value, dict | list):
        return
    if depth >= NESTING_LIMIT:
        raise RowError(place, f"is nested deeper than {NESTING_LIMIT} levels")
    for each in value.values() if isinstance(value, dict) else value:
        if isinstance(each, dict | list):
            check_depth(each, place, depth=depth + 1)


def find_surrogate(value: object, path: Sequence[str | int] = ()) -> tuple[str, str] | None:
    """Return the field and the first lone surrogate in any text of a value, None when there is none.

    A surrogate is half of a character, such as an emoji cut in two; UTF-8 cannot hold it. The field is
    dotted, e.g. ``prompt.0.content``.
    """
    if isinstance(value, str):
        half = None if value.isascii() else _SURROGATE.search(value)
        return (".".join(map(str, path)), f"\\u{ord(half[0]):04x}") if half else None
    if isinstance(value, dict):
        named = [(path, name) for name in value] + [((*path, name), each) for name, each in value.items()]
    elif isinstance(value, list | tuple):
        named = [((*path, number), each) for number, each in enumerate(value)]
    else:
        return None
    return next((found for at, each in named if (found := find_surrogate(each, at))), None)


def _decoded(text: bytes, place: Place) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise not_utf8(error, place) from error


def not_utf8(error: UnicodeDecodeError, place: Place) -> RowError:
    """Return what a line in another encoding means."""
    return RowError(
        place, f"is not UTF-8 text: {error.reason} at byte {error.start + 1}; convert the file to UTF-8"
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Repeated(next(name for name in names if names.count(name) > 1))
    return made


def _no_number(_name: str) -> None:
    return None


def kind_of(value: object) -> str:
    """Return what a value of JSON is, for people."""
    return next(words for kind, words in _KINDS if isinstance(value, kind))


def decoder(*, keep_numbers: bool) -> json.JSONDecoder:
    """Return a decoder that refuses an object with a key twice.

    Args:
        keep_numbers: whether NaN and infinity stay what they are; otherwise they are None.
    """
    return _PLAIN if keep_numbers else _FINITE


CR_ALONE: Final = "has a line end of CR alone; write LF, or CR and LF"
_KINDS: Final[Sequence[tuple[type, str]]] = (
    (type(None), "null"),
    (str, "text"),
    (bool, "true or false"),
    (int, "a number"),
    (float, "a number"),
    (list, "a list"),
    (Mapping, "an object"),
    (object, "no value of JSON"),
)
_PLAIN: Final = json.JSONDecoder(object_pairs_hook=_object)
_FINITE: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_number)
