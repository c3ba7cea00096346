"""Datasets as JSON lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from pydantic import TypeAdapter, ValidationError

from tunestream.artifacts.store import ArtifactStore
from tunestream.events.dataset import DatasetRow
from tunestream.events.training import DatasetFile

__all__ = ["put_rows", "read_rows", "rows_to_jsonl"]

_ROW: Final[TypeAdapter[DatasetRow]] = TypeAdapter(DatasetRow)


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


def put_rows(store: ArtifactStore, rows: Iterable[DatasetRow]) -> DatasetFile:
    """Store rows as one file and describe it."""
    kept = list(rows)
    stored = store.put_bytes(rows_to_jsonl(kept))
    return DatasetFile(uri=stored.uri, sha256=stored.sha256, rows=len(kept), size=stored.size)
