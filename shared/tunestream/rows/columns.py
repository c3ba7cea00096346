"""What the columns of a row stand for: the format of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from tunestream.config.experiment.row_format import RowFormat
from tunestream.rows.messages import writable

__all__ = ["CHATS", "COMPLETIONS", "FormatUnknown", "holds_chat", "recognise"]

Values = Mapping[str, Any]

CHATS: Final = ("messages", "conversations", "conversation")
COMPLETIONS: Final = ("completion", "response")


class FormatUnknown(ValueError):
    """The columns stand for no format, or for several; the message has the setting to write."""


def recognise(row: Values) -> RowFormat:
    """Return the format that a row's columns stand for.

    Raises:
        FormatUnknown: when that is none, or several.
    """
    found = [name for name, fits in _FITS.items() if fits(row)]
    columns = ", ".join(map(writable, row))
    if len(found) == 1:
        _check_one_of_each(found[0], row)
        return found[0]
    if found:
        ways = " or ".join(f"data.format: {name}" for name in found)
        raise FormatUnknown(f"the columns {columns} stand for several formats; write {ways}")
    raise FormatUnknown(
        f"the columns {columns} stand for no format; write data.prompt and data.prompt_stub, "
        "templates with columns in braces, or data.messages, or data.chosen and data.rejected"
    )


def _check_one_of_each(form: RowFormat, row: Values) -> None:
    """Refuse two columns of which either may be meant."""
    if form is RowFormat.MESSAGES:
        there = [name for name in CHATS if holds_chat(row, "role", name)]
        remedy = "write data.messages"
    elif form is RowFormat.SHAREGPT:
        there = [name for name in CHATS if holds_chat(row, "from", name)]
        remedy = "keep one of them in the file"
    elif form in {RowFormat.PROMPT_COMPLETION, RowFormat.KTO}:
        there = [name for name in COMPLETIONS if row.get(name) is not None]
        remedy = "write data.prompt and data.prompt_stub"
    else:
        return
    if len(there) > 1:
        raise FormatUnknown(f"either of the columns {' and '.join(there)} may be meant; {remedy}")


def holds_chat(row: Values, key: str, *columns: str) -> bool:
    """Return whether one of the columns holds messages, known by a key."""
    return any(_is_chat(row.get(column), key) for column in columns)


def _is_chat(value: object, key: str) -> bool:
    if isinstance(value, str):
        return value.lstrip().startswith("[") and key == "role" and key in value
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping) and key in value[0]


def _has(row: Values, *columns: str) -> bool:
    return all(column in row for column in columns)


def _completes(row: Values) -> bool:
    return "prompt" in row and any(name in row for name in COMPLETIONS)


_FITS_BUT_TEXT: Final[Mapping[RowFormat, Callable[[Values], bool]]] = MappingProxyType(
    {
        RowFormat.ALPACA: lambda row: _has(row, "instruction", "output"),
        RowFormat.SHAREGPT: lambda row: holds_chat(row, "from", *CHATS),
        RowFormat.MESSAGES: lambda row: holds_chat(row, "role", *CHATS),
        RowFormat.PROMPT_COMPLETION: lambda row: _completes(row) and "label" not in row,
        RowFormat.PREFERENCE: lambda row: _has(row, "chosen", "rejected"),
        RowFormat.KTO: lambda row: _completes(row) and "label" in row,
    }
)
_FITS: Final[Mapping[RowFormat, Callable[[Values], bool]]] = MappingProxyType(
    {
        **_FITS_BUT_TEXT,
        RowFormat.TEXT: lambda row: "text" in row and not any(fits(row) for fits in _FITS_BUT_TEXT.values()),
    }
)
