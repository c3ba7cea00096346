"""What is done, one JSON object a line, so that a killed stage goes on where it was."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

from pydantic import ValidationError

from tunestream.events.base import Wire

__all__ = ["Journal", "read_lines"]

W = TypeVar("W", bound=Wire)


class Journal(Generic[W]):
    """A file to which finished rows are appended; lines that a kill tore are cut off when it is opened.

    Args:
        path: of the file; it may be missing.
        kind: of the rows.
        key: names a row.

    Attributes:
        done: the rows in the file by their key; the first of a key counts.
    """

    def __init__(self, path: Path, kind: type[W], key: Callable[[W], str]) -> None:
        self.done: dict[str, W] = {}
        self._key = key
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = self._read(path, kind)
        self._file = path.open("ab")
        self._file.truncate(whole)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, rows: Iterable[W]) -> None:
        """Append rows that are not there yet; they outlive a kill when this returns."""
        new = {self._key(row): row for row in rows if self._key(row) not in self.done}
        self._file.write(b"".join(row.to_json() + b"\n" for row in new.values()))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.done |= new

    def _read(self, path: Path, kind: type[W]) -> int:
        """Take up the rows of the file, and return at which byte they end."""
        if not path.exists():
            return 0
        end = 0
        with path.open("rb") as lines:
            for line in lines:
                row = _parsed(line, kind)
                if row is None:
                    break
                self.done.setdefault(self._key(row), row)
                end += len(line)
        return end


def _parsed(line: bytes, kind: type[W]) -> W | None:
    """Return a row, or None for a line that is torn."""
    if not line.endswith(b"\n"):
        return None
    try:
        return kind.model_validate_json(line)
    except ValidationError:
        return None


def read_lines(path: Path, kind: type[W]) -> list[W]:
    """Return the rows of a JSONL file."""
    with path.open("rb") as lines:
        return [kind.model_validate_json(line) for line in lines]
