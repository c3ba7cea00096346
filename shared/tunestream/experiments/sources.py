"""Rows of data in every format, and what distinguishes one content from another."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import ijson

from tunestream.config.experiment.experiment import DataConfig, StreamConfig
from tunestream.config.settings import KafkaSettings
from tunestream.events.trajectories import TrajectoryGroup
from tunestream.experiments.stages import StageFailed
from tunestream.streams.reading import RecordReader, stored_events

__all__ = ["Row", "fingerprint", "read_groups", "read_rows", "sha256_of"]

Row = dict[str, Any]

_ENDINGS: Final[Mapping[str, str]] = MappingProxyType(
    {".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
)
_DATA: Final = frozenset({".json", ".jsonl", ".csv", ".parquet", ".arrow", ".txt", ".gz", ".zst"})


def read_rows(data: DataConfig) -> Iterator[Row]:
    """Yield the rows of a file or of a Hugging Face dataset, one at a time where the format allows it.

    Raises:
        StageFailed: when it cannot be read as what it should be.
    """
    kind, path = _kind(data), Path(str(data.path))
    if kind == "huggingface":
        yield from _huggingface(str(data.path), data.revision)
        return
    if not path.is_file():
        raise StageFailed("no_such_file", f"data.path: there is no file {path}; data.file_type is {kind}")
    try:
        yield from _READERS[kind](path)
    except UnicodeDecodeError as error:
        raise StageFailed("bad_data", f"{path} is not UTF-8 text: {error.reason}") from error


async def read_groups(stream: StreamConfig, kafka: KafkaSettings) -> AsyncIterator[TrajectoryGroup]:
    """Yield a run's groups of trajectories, in the order in which they were written.

    Raises:
        StageFailed: when a body was put away, being too large for a record.
    """
    async with RecordReader(kafka, stream.topic, from_beginning=True) as reader:
        async for stored in stored_events(reader.to_end()):
            inside = stored.record.offset >= stream.start and (
                stream.end is None or stored.record.offset < stream.end
            )
            if not inside or getattr(stored.body, "run_id", None) != stream.run_id:
                continue
            if isinstance(stored.body, TrajectoryGroup):
                yield stored.body


def fingerprint(data: DataConfig) -> Row:
    """Return what distinguishes this data: the sha256 of files, the name and revision of a dataset.

    Raises:
        StageFailed: when there is no such file.
    """
    path = Path(str(data.path))
    if path.is_file():
        return {"sha256": sha256_of(path)}
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.suffix in _DATA)
        return {"files": {each.relative_to(path).as_posix(): sha256_of(each) for each in files}}
    if _kind(data) != "huggingface":
        raise StageFailed("no_such_file", f"data.path: there is no file {path}")
    return {"name": data.path, "revision": data.revision}


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _kind(data: DataConfig) -> str:
    return data.file_type or _ENDINGS.get(Path(str(data.path)).suffix.lower(), "huggingface")


def _json(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        beginning = file.read(256)
        mark = len(BOM_UTF8) if beginning.startswith(BOM_UTF8) else 0
        if not beginning[mark:].lstrip().startswith(b"["):
            raise StageFailed(
                "bad_data", f"{path} is not an array of objects; is data.file_type jsonl meant?"
            )
        file.seek(mark)
        try:
            yield from _objects(path, ijson.items(file, "item", use_float=True))
        except ijson.JSONError as error:
            raise StageFailed("bad_data", f"{path} is not JSON: {error}") from error


def _jsonl(path: Path) -> Iterator[Row]:
    def values() -> Iterator[Any]:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    yield json.loads(line)
                except json.JSONDecodeError as error:
                    message = f"{path}:{number} is not JSON: {error.msg}; is data.file_type json meant?"
                    raise StageFailed("bad_data", message) from error

    return _objects(path, values())


def _objects(path: Path, values: Iterator[Any]) -> Iterator[Row]:
    for number, value in enumerate(values, start=1):
        if not isinstance(value, dict):
            raise StageFailed("bad_data", f"{path}: row {number} is not an object of columns")
        yield value


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, row in enumerate(csv.DictReader(file, restkey="\0"), start=2):
            if "\0" in row:
                raise StageFailed("bad_data", f"{path}: line {number} has more cells than the header")
            yield row


def _parquet(path: Path) -> Iterator[Row]:
    from pyarrow import ArrowInvalid  # noqa: PLC0415 - half a second, which other formats do not pay
    from pyarrow.parquet import ParquetFile  # noqa: PLC0415 - the same

    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except ArrowInvalid as error:
        raise StageFailed("bad_data", f"{path} is not Parquet: {error}") from error


def _huggingface(name: str, revision: str | None) -> Iterator[Row]:
    """Yield the rows of all splits of a dataset, by name, of a saved one, or of a folder of files."""
    from datasets import DatasetDict, load_dataset, load_from_disk  # noqa: PLC0415 - takes a second
    from datasets.exceptions import DatasetsError  # noqa: PLC0415 - the same
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError  # noqa: PLC0415 - the same

    saved = any((Path(name) / file).is_file() for file in ("state.json", "dataset_dict.json"))
    try:
        loaded = load_from_disk(name) if saved else load_dataset(name, revision=revision)
    except (DatasetsError, OSError, ValueError, HfHubHTTPError, HFValidationError) as error:
        raise StageFailed(
            "no_such_dataset",
            f"data.path: {name!r} is neither a folder with a dataset nor one that the hub gives: {error}",
        ) from error
    for part in loaded.values() if isinstance(loaded, DatasetDict) else [loaded]:
        yield from (dict(row) for row in part)


_READERS: Final[Mapping[str, Callable[[Path], Iterator[Row]]]] = MappingProxyType(
    {"json": _json, "jsonl": _jsonl, "csv": _csv, "parquet": _parquet}
)
