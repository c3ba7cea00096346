"""Datasets as JSON lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Self

from pydantic import TypeAdapter, ValidationError

from tunestream.artifacts.store import ArtifactStore
from tunestream.events.dataset import DatasetRow
from tunestream.events.training import DatasetFile

__all__ = ["DatasetWriter", "put_rows", "read_rows", "rows_to_jsonl"]

_ROW: Final[TypeAdapter[DatasetRow]] = TypeAdapter(DatasetRow)

_AT_ONCE: Final = 32  # lines: one by one they take longer to hash


def rows_to_jsonl(rows: Iterable[DatasetRow]) -> bytes:
    """Write rows as UTF-8 JSON lines; the same rows give the same bytes."""
    return b"".join(row.to_json() + b"\n" for row in rows)


def read_rows(content: bytes) -> Iterator[DatasetRow | None]:
    """Read JSON lines; a line that is not a row of any kind gives None in its place."""
    for line in content.splitlines():
        try:
            yield _ROW.validate_json(line)
        except ValidationError:
            yield None


class DatasetWriter:
    """Writes one dataset to the store line by line; it is there when :meth:`finish` returns.

    Only so much of it is in memory as the store's writer keeps there. Used as a context manager, it leaves
    nothing behind.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._content = store.writer()
        self._lines: list[bytes] = []
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up what was not stored."""
        self._content.close()

    def add(self, line: bytes) -> None:
        """Add a row's JSON."""
        self._lines.append(line)
        self.rows += 1
        if len(self._lines) >= _AT_ONCE:
            self._write()

    def _write(self) -> None:
        lines, self._lines = self._lines, []
        self._content.write(b"".join([line + b"\n" for line in lines]))

    def finish(self) -> DatasetFile:
        """Store what was written and describe it."""
        self._write()
        stored = self._content.finish()
        return DatasetFile(uri=stored.uri, sha256=stored.sha256, rows=self.rows, size=stored.size)


def put_rows(store: ArtifactStore, rows: Iterable[DatasetRow]) -> DatasetFile:
    """Store rows as one file and describe it."""
    with DatasetWriter(store) as dataset:
        for row in rows:
            dataset.add(row.to_json())
        return dataset.finish()
