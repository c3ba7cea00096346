"""Rows of data from every source, and what distinguishes one content from another."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

from tunestream.config.experiment.data import DataConfig, StreamConfig
from tunestream.config.settings import KafkaSettings
from tunestream.events.groups import PreferenceGroup
from tunestream.events.trajectories import TrajectoryGroup, TrajectoryGroupRef
from tunestream.experiments.stages import StageFailed
from tunestream.rows.errors import Place, RowError
from tunestream.rows.opening import FileType, type_of_file
from tunestream.rows.reading import Row, read_rows
from tunestream.rows.values import clean
from tunestream.streams.reading import RecordReader, stored_events

__all__ = ["fingerprint", "read_data", "read_groups", "sha256_of"]

_DATA: Final = frozenset({".json", ".jsonl", ".csv", ".tsv", ".parquet", ".arrow", ".txt", ".gz", ".zst"})
_HUB: Final = "for a dataset of the hub write data.file_type: huggingface"


def read_data(data: DataConfig) -> Iterator[Row]:
    """Yield the rows of a file or of a Hugging Face dataset, one at a time where the format allows it.

    Raises:
        StageFailed: when it cannot be read as what it should be.
    """
    if _is_dataset(data):
        yield from _huggingface(str(data.path), data.revision)
        return
    path = _file(data)
    try:
        kind = FileType(data.file_type) if data.file_type else type_of_file(str(path), "data.file_type")
        yield from read_rows(str(path), kind)
    except RowError as error:
        raise StageFailed("bad_data", str(error)) from error


async def read_groups(
    stream: StreamConfig, kafka: KafkaSettings
) -> AsyncIterator[TrajectoryGroup | PreferenceGroup]:
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
            if isinstance(stored.body, TrajectoryGroup | PreferenceGroup):
                yield stored.body
            elif isinstance(stored.body, TrajectoryGroupRef):
                raise StageFailed(
                    "stored_group",
                    f"data.stream: group {stored.body.group_id} is too large for a record and lies in the "
                    "artifact store; lower trajectory_builder.max_pairs_per_turn for such runs",
                )


def fingerprint(data: DataConfig) -> dict[str, Any]:
    """Return what distinguishes this data: the sha256 of files, the name and revision of a dataset.

    Raises:
        StageFailed: when there is no such file.
    """
    path = Path(str(data.path))
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.suffix in _DATA)
        return {"files": {each.relative_to(path).as_posix(): sha256_of(each) for each in files}}
    if not path.is_file() and data.file_type == "huggingface":
        return {"name": data.path, "revision": data.revision}
    return {"sha256": sha256_of(_file(data))}


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_dataset(data: DataConfig) -> bool:
    """Return whether ``datasets`` reads it: a folder, or what is named so; a name alone asks no hub."""
    return data.file_type == "huggingface" or (data.file_type is None and Path(str(data.path)).is_dir())


def _file(data: DataConfig) -> Path:
    path = Path(str(data.path))
    if not path.is_file():
        raise StageFailed("no_such_file", f"data.path: there is no file {path}; {_HUB}")
    return path


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
    number = 0
    for part in loaded.values() if isinstance(loaded, DatasetDict) else [loaded]:
        for values in part:
            number += 1
            place = Place(name, number, "row")
            yield Row(place, {key: clean(value, place, field=key) for key, value in values.items()})
