"""Datasets that somebody submits: their rows, their split, and the batch that they become."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from tunestream.domain.gate.split import is_held_out, opening_of
from tunestream.events.dataset import DatasetRow, EpisodeRow, ResponseRow
from tunestream.events.ids import stable_id
from tunestream.events.messages import Prompt
from tunestream.events.training import CurriculumState, DatasetFile, Objective, TrainingBatch

__all__ = ["make_batch", "read_submitted", "split_submitted"]

_DOCUMENT: Final[TypeAdapter[dict[str, Any]]] = TypeAdapter(dict[str, Any])
_ROW: Final[TypeAdapter[DatasetRow]] = TypeAdapter(DatasetRow)


def read_submitted(content: bytes) -> Iterator[DatasetRow]:
    """Read the JSON lines of a submitted dataset.

    A preference needs ``prompt``, ``chosen`` and ``rejected``, a response ``prompt`` and ``response``, an
    episode ``items`` and ``reward``; what else their rows have is filled in from the line's number.

    Raises:
        ValueError: naming the first line that is no row.
    """
    for number, line in enumerate(content.splitlines(), start=1):
        if line.strip():
            try:
                document = _DOCUMENT.validate_json(line)
                yield _ROW.validate_python(_filled(document, number))
            except ValidationError as error:
                first = error.errors()[-1]
                place = ".".join(map(str, first["loc"]))
                raise ValueError(f"line {number} is no row of a dataset: {place}: {first['msg']}") from error


def _filled(document: dict[str, Any], number: int) -> dict[str, Any]:
    if "response" in document:
        return document
    defaults: dict[str, Any] = {"group_id": f"line-{number}", "example_id": f"line-{number}"}
    if "items" not in document:
        defaults |= {"turn_id": "", "chosen_score": 1.0, "rejected_score": 0.0, "reward": 1.0}
    return defaults | document


def split_submitted(
    rows: Iterable[DatasetRow], run_id: str, fraction: float
) -> tuple[list[DatasetRow], list[DatasetRow]]:
    """Split rows into train and validation as the stream does: what it holds out is held out here too."""
    parts: tuple[list[DatasetRow], list[DatasetRow]] = ([], [])
    for row in rows:
        parts[is_held_out(run_id, _prompt(row), fraction)].append(row)
    return parts


def _prompt(row: DatasetRow) -> Prompt:
    return opening_of(row.items) if isinstance(row, EpisodeRow) else row.prompt


def make_batch(
    run_id: str,
    *,
    config_digest: str,
    objective: Objective,
    train: DatasetFile,
    validation: DatasetFile | None,
    rows: Iterable[DatasetRow],
) -> TrainingBatch:
    """Describe a stored dataset as a batch; the same dataset and configuration give the same batch.

    Args:
        run_id: the run that should learn from it.
        config_digest: of the run's configuration to train under.
        objective: of that configuration.
        train: the stored rows to train on.
        validation: those to measure on.
        rows: all of them.
    """
    groups, versions, unversioned = set(), set(), 0
    for number, row in enumerate(rows):
        version = None if isinstance(row, ResponseRow) else row.policy_version
        groups.add(str(number) if isinstance(row, ResponseRow) else row.group_id)
        if version is None:
            unversioned += 1
        else:
            versions.add(version)
    contents = validation.sha256 if validation else ""
    return TrainingBatch(
        run_id=run_id,
        batch_id=stable_id("submitted", run_id, config_digest, train.sha256, contents),
        config_digest=config_digest,
        objective=objective,
        epoch=0,
        train=train,
        validation=validation,
        groups=max(len(groups), 1),
        curriculum=CurriculumState(current_percentile=1.0),
        policy_versions=sorted(versions),
        unversioned_rows=unversioned,
        origin="submitted",
    )
