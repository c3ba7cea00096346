"""Opening a file of rows: its type from its name, its bytes unpacked and without a mark of their order."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final, cast

from tunestream.rows.errors import RowError

__all__ = ["ENDINGS", "FileType", "lines_of", "open_bytes", "type_of_file"]


class FileType(StrEnum):
    """How the rows of a file are written."""

    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    TSV = "tsv"
    PARQUET = "parquet"


ENDINGS: Final[Mapping[str, FileType]] = MappingProxyType(
    {
        ".jsonl": FileType.JSONL,
        ".ndjson": FileType.JSONL,
        ".json": FileType.JSON,
        ".csv": FileType.CSV,
        ".tsv": FileType.TSV,
        ".parquet": FileType.PARQUET,
    }
)
"""Ending of a name → type; ``.gz`` may follow it."""

_ENDING: Final = ".gz"
_GZIP: Final = b"\x1f\x8b"
_BROKEN: Final = (gzip.BadGzipFile, EOFError, zlib.error)


def type_of_file(source: str, setting: str, default: FileType | None = None) -> FileType:
    """Return the type that a name's ending stands for.

    Args:
        source: a path, or ``-`` for stdin.
        setting: what the user writes to name a type, e.g. ``data.file_type``.
        default: the type of stdin, of pipes, and of names without an ending.

    Raises:
        RowError: when the ending stands for none.
    """
    path = Path(_unpacked_name(source))
    found = ENDINGS.get(path.suffix.lower())
    if found is not None:
        return found
    unnamed = source == "-" or not path.suffix or not (Path(source).is_file() or not Path(source).exists())
    if default is not None and unnamed:
        return default
    known = ", ".join(FileType)
    ending = f"the ending {path.suffix!r}" if path.suffix else "a name without an ending"
    raise RowError(source, f"{ending} stands for no type of file; set {setting} to one of {known}")


def _unpacked_name(source: str) -> str:
    return source[: -len(_ENDING)] if source.lower().endswith(_ENDING) else source


@contextmanager
def open_bytes(source: str) -> Iterator[IO[bytes]]:
    """Open a file, or stdin for ``-``; what is gzipped is unpacked, and a byte order mark passed over.

    Raises:
        RowError: when it is text of 16 or 32 bits a character, or is named ``.gz`` and is not.
    """
    with _opened(source) as raw:
        packed = _unpacked_name(source) != source or raw.peek(2)[:2] == _GZIP
        file = io.BufferedReader(cast("Any", gzip.GzipFile(fileobj=raw))) if packed else raw
        try:
            yield _unmarked(file, source)
        except _BROKEN as error:
            raise RowError(source, f"is not a whole gzip file: {error}") from error


def lines_of(file: IO[bytes], source: str) -> Iterator[bytes]:
    """Yield the lines of an open file, with their ends.

    Raises:
        RowError: when a gzipped file is damaged or ends early, with the line that was reached.
    """
    number = 0
    try:
        for line in file:
            number += 1
            yield line
    except _BROKEN as error:
        raise RowError(source, f"is not a whole gzip file: {error} (after line {number})") from error


@contextmanager
def _opened(source: str) -> Iterator[io.BufferedReader]:
    if source == "-":
        stdin = sys.stdin.buffer
        yield stdin if isinstance(stdin, io.BufferedReader) else io.BufferedReader(cast("Any", stdin))
        return
    with Path(source).open("rb") as file:
        yield file


def _unmarked(file: io.BufferedReader, source: str) -> io.BufferedReader:
    beginning = file.peek(4)[:4]
    without_mark = len(beginning) > 1 and (beginning[0] == 0) != (beginning[1] == 0)
    if without_mark or beginning.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or beginning == BOM_UTF32_BE:
        raise RowError(source, "is text in UTF-16 or UTF-32; save it as UTF-8")
    if beginning.startswith(BOM_UTF8):
        file.read(len(BOM_UTF8))
    return file
