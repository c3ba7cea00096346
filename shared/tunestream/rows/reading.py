"""The one reader of files of rows: JSON lines, JSON, CSV, TSV and Parquet, plain or gzipped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import IO, Any, NamedTuple

from tunestream.rows.errors import Place, RowError
from tunestream.rows.json_array import array_items
from tunestream.rows.opening import FileType, lines_of, open_bytes
from tunestream.rows.tables import parquet_rows, separated_rows, written_as
from tunestream.rows.values import check_depth, clean, json_value, kind_of

__all__ = ["Row", "open_lines", "read_rows"]


class Row(NamedTuple):
    """One row: where it is, and its values by column; None is a missing one."""

    place: Place
    values: dict[str, Any]


def read_rows(source: str, kind: FileType) -> Iterator[Row]:
    """Yield the rows of a file, one at a time; numbers that are not finite are None.

    Args:
        source: a path, or ``-`` for stdin.
        kind: its type, e.g. of :func:`~tunestream.rows.opening.type_of_file`.

    Raises:
        RowError: at the first fault, with file, line and field.
        OSError: when the file cannot be opened.
    """
    with open_bytes(source) as file:
        for place, values in _rows(file, source, kind):
            if not isinstance(values, dict):
                raise RowError(place, f"is not an object of columns; {_hint(kind, values)}")
            yield Row(place, {name: clean(value, place, field=name) for name, value in values.items()})


@contextmanager
def open_lines(source: str, kind: FileType) -> Iterator[Iterator[bytes]]:
    """Open a file as lines of JSON, each where its row is in the file.

    So the number of a line names the row. JSON lines come as they are, and rows of other types as JSON. For
    CSV and TSV an empty line stands for each line of the file on which no row begins. Values are what they
    are: numbers that are not finite, and halves of characters, are for who reads the lines to refuse.

    Raises:
        RowError: at the first fault, while the lines are taken.
        OSError: when the file cannot be opened.
    """
    with open_bytes(source) as file:
        if kind is FileType.JSONL:
            yield lines_of(file, source)
        else:
            yield _as_lines(_rows(file, source, kind, keep_numbers=True))


def _rows(
    file: IO[bytes], source: str, kind: FileType, *, keep_numbers: bool = False
) -> Iterator[tuple[Place, Any]]:
    match kind:
        case FileType.JSONL:
            return _json_lines(file, source)
        case FileType.JSON:
            return array_items(file, source, keep_numbers=keep_numbers)
        case FileType.CSV:
            return separated_rows(file, source, ",")
        case FileType.TSV:
            return separated_rows(file, source, "\t")
        case FileType.PARQUET:
            return parquet_rows(file, source)


def _json_lines(file: IO[bytes], source: str) -> Iterator[tuple[Place, Any]]:
    for number, line in enumerate(lines_of(file, source), start=1):
        if line.strip():
            place = Place(source, number)
            yield place, json_value(line, place)


def _as_lines(rows: Iterator[tuple[Place, Any]]) -> Iterator[bytes]:
    reached = 0
    for place, values in rows:
        check_depth(values, place)
        try:
            written = json.dumps(values, default=written_as)
        except TypeError as error:
            raise RowError(place, f"{error}; leave their column out") from error
        yield from chain([b""] * (place.number - reached - 1), [written.encode()])
        reached = place.number


def _hint(kind: FileType, value: object) -> str:
    if kind is FileType.JSONL and isinstance(value, list):
        return "is the type json meant?"
    return f"it is {kind_of(value)}"
