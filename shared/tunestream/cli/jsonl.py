"""Lines of JSON, in and out: files of any type of rows, or the standard streams."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Annotated

import typer

from tunestream.cli.errors import Failure
from tunestream.rows.opening import FileType, type_of_file
from tunestream.rows.reading import open_lines

__all__ = ["FileTypeOption", "read_lines", "write_lines"]


FileTypeOption = Annotated[
    FileType | None,
    typer.Option("--file-type", help="Type of the input; by default from its ending, else jsonl."),
]


def read_lines(source: str, file_type: FileType | None = None) -> AbstractContextManager[Iterator[bytes]]:
    """Open a file as lines of JSON; ``-`` is stdin, and what is gzipped is unpacked.

    The n-th line is that of the file: see :func:`tunestream.rows.reading.open_lines`.

    Raises:
        RowError: when its type is not known; while lines are taken, when it cannot be read.
    """
    return open_lines(source, file_type or type_of_file(source, "--file-type", FileType.JSONL))


def write_lines(target: str, lines: Iterable[bytes]) -> None:
    """Write lines to stdout (``-``), to a pipe or a device, or to a file that appears when it is whole.

    Raises:
        Failure: when the file cannot be made.
    """
    path = Path(target)
    if target == "-":
        _write(sys.stdout.buffer, lines)
    elif path.exists() and not path.is_file():
        with path.open("wb") as device:
            _write(device, lines)
    else:
        _replace(path, lines)


def _write(file: IO[bytes], lines: Iterable[bytes]) -> None:
    file.writelines(line + b"\n" for line in lines)
    file.flush()


def _replace(path: Path, lines: Iterable[bytes]) -> None:
    with _beside(path) as file:
        try:
            _write(file, lines)
            os.fsync(file.fileno())
        except BaseException:
            Path(file.name).unlink()
            raise
    Path(file.name).chmod(0o666 & ~_umask())
    Path(file.name).replace(path)


def _beside(path: Path) -> IO[bytes]:
    try:
        return NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False)
    except OSError as error:
        raise Failure(f"{path}: cannot be written: {error.strerror}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
