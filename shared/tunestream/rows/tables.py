"""The rows of tables: CSV and TSV, strictly, and Parquet."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from typing import IO, Any, Final

from tunestream.rows.errors import Place, RowError
from tunestream.rows.opening import lines_of
from tunestream.rows.values import CR_ALONE, not_utf8

__all__ = ["parquet_rows", "separated_rows", "written_as"]

_SEPARATORS: Final = {
    "\t": "tabs separate the columns of the type tsv",
    ";": "separate columns by commas, not by semicolons",
    ",": "commas separate the columns of the type csv",
}
_BATCH: Final = 1000  # rows of Parquet at a time


def separated_rows(file: IO[bytes], source: str, separator: str) -> Iterator[tuple[Place, dict[str, str]]]:
    """Yield the rows of a table in text, each with the line on which it begins.

    Args:
        file: the open file; its first line names the columns.
        source: its name.
        separator: what stands between cells.

    Raises:
        RowError: at a quote that is not closed, a column that is named twice, or a row that does not have
            as many cells as the first line.
    """
    csv.field_size_limit(sys.maxsize)
    lines = _Lines(lines_of(file, source), source)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    columns: list[str] | None = None
    while True:
        lines.begin = lines.number + 1
        place = Place(source, lines.begin)
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise RowError(place, _reason(error)) from error
        if cells is None:
            return
        if not cells:  # a blank line
            continue
        if columns is None:
            columns = _columns(cells, place)
            _check_separator(columns, place, separator)
        elif len(cells) != len(columns):
            raise RowError(place, f"has {len(cells)} cells, and the first line names {len(columns)} columns")
        else:
            yield place, dict(zip(columns, cells, strict=True))


def parquet_rows(file: IO[bytes], source: str) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield the rows of a Parquet file, a thousand read at a time.

    Bytes that are UTF-8 are text, as not every writer marks its texts; a map is an object.

    Raises:
        RowError: when it is no Parquet, names a column twice, holds a moment or a map that Python cannot, or
            pyarrow is not installed.
    """
    try:
        from pyarrow import ArrowException  # noqa: PLC0415 - half a second, which other formats do not pay
        from pyarrow.parquet import ParquetFile  # noqa: PLC0415 - the same
    except ImportError as error:
        raise RowError(source, "Parquet needs pyarrow: pip install 'tunestream[experiments]'") from error
    if not file.seekable() or source.endswith(".gz"):
        raise RowError(source, "Parquet is compressed inside and read from its end; give it as a plain file")
    number = 0
    try:
        with ParquetFile(file) as table:
            _columns(table.schema_arrow.names, source)
            for batch in table.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist(maps_as_pydicts="strict"):
                    number += 1
                    yield Place(source, number, "row"), _as_text(row)
    except ArrowException as error:
        raise RowError(source, f"is not Parquet: {error}") from error
    except (OverflowError, KeyError) as error:  # a moment out of range; a map with a key twice
        raise RowError(source, f"behind row {number} a value cannot be read: {error}") from error


def written_as(value: object) -> str:
    """Return what JSON has no kind for as text; for ``json.dumps``.

    Raises:
        TypeError: for bytes that are no text.
    """
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        raise TypeError("holds bytes that are no text in UTF-8")
    return str(value)


def _as_text(value: Any) -> Any:
    """Return a value with text for all bytes that are UTF-8."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    if isinstance(value, dict):
        return {name: _as_text(each) for name, each in value.items()}
    return [_as_text(each) for each in value] if isinstance(value, list) else value


class _Lines:
    """Lines as text, counted."""

    def __init__(self, lines: Iterator[bytes], source: str) -> None:
        self._lines, self._source = lines, source
        self.number = self.begin = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            raise not_utf8(error, Place(self._source, self.number)) from error


def _columns(names: Sequence[str], where: Place | str) -> list[str]:
    for name in names:
        if names.count(name) > 1:
            raise RowError(where, "two columns have this name; rename one", field=repr(name))
    return list(names)


def _check_separator(columns: Sequence[str], place: Place, separator: str) -> None:
    """Refuse a table with another separator: it would have one column with the names of all."""
    if len(columns) > 1 or not columns[0]:
        return
    for other, remedy in _SEPARATORS.items():
        if other != separator and other in columns[0]:
            raise RowError(place, f"names one column, {columns[0]!r}; {remedy}")


def _reason(error: csv.Error) -> str:
    if "new-line" in str(error):
        return CR_ALONE
    if "unexpected end of data" in str(error):
        return "a quote opens in this row and is never closed"
    return f"is not a table: {error}; write a quote inside quotes twice"
