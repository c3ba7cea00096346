"""Files of JSON lines: plain, gzipped, or the standard streams."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from tunestream.cli.errors import Failure

__all__ = ["read_lines", "write_lines"]


@contextmanager
def read_lines(source: str) -> Iterator[Iterator[bytes]]:
    """Open a file of lines; ``-`` is stdin, and a name that ends in ``.gz`` is unpacked.

    Raises:
        Failure: when what should be gzip is not, or ends early.
    """
    if source == "-":
        yield iter(sys.stdin.buffer)
        return
    with gzip.open(source) if source.endswith(".gz") else Path(source).open("rb") as file:
        try:
            yield iter(file)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise Failure(f"{source}: is not a whole gzip file: {error}") from error


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
