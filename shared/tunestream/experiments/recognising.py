"""What the columns of an experiment's data are, where its file does not name them."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any, Final

from pydantic import ValidationError

from tunestream.config.experiment.data import DataConfig
from tunestream.config.experiment.experiment import Config
from tunestream.config.experiment.loading import ArmConfig, LoadedExperiment
from tunestream.config.experiment.row_format import RowFormat
from tunestream.experiments.sources import read_data
from tunestream.experiments.stages import StageFailed
from tunestream.rows.columns import FormatUnknown, recognise

__all__ = ["format_of", "recognised", "recognised_or_open"]

_LOOKED_AT: Final = 20  # rows: the first may lack a value


def recognised(loaded: LoadedExperiment) -> LoadedExperiment:
    """Return an experiment whose data has a format, with a note of what was recognised.

    Raises:
        StageFailed: when the data cannot be read, its columns stand for no format or for several, or the
            objective cannot learn from it.
    """
    notes: dict[str, None] = {}
    known: dict[str, RowFormat] = {}
    arms = tuple(_arm(arm, known, notes) for arm in loaded.arms)
    return replace(loaded, arms=arms, notes=(*loaded.notes, *notes))


def recognised_or_open(loaded: LoadedExperiment) -> LoadedExperiment:
    """Return the same, or ``loaded`` where that fails: the stage that reads its data gives the reason."""
    try:
        return recognised(loaded)
    except StageFailed:
        return loaded


def format_of(data: DataConfig) -> RowFormat:
    """Return what the columns of the first rows are.

    Raises:
        StageFailed: when there is no row, or its columns stand for no format or for several.
    """
    columns: dict[str, Any] = {}
    for row in islice(read_data(data), _LOOKED_AT):
        columns |= {name: value for name, value in row.values.items() if not columns.get(name)}
    if not columns:
        raise StageFailed("no_rows", f"data.path: there are no rows in {data.path}")
    try:
        form = recognise(columns)
    except FormatUnknown as error:
        raise StageFailed("unknown_format", f"data.path: {data.path}: {error}") from error
    if form is RowFormat.TEXT:
        message = "holds whole texts, which have no prompt to ask and no answer to judge"
        remedy = "put them into columns, and write data.prompt and data.prompt_stub"
        raise StageFailed("unknown_format", f"data.path: {data.path}: the column text {message}: {remedy}")
    return form


def _arm(arm: ArmConfig, known: dict[str, RowFormat], notes: dict[str, None]) -> ArmConfig:
    data = arm.config.data
    if not data.is_open:
        return arm
    name = data.model_dump_json(include={"path", "revision", "file_type"})
    if name not in known:
        known[name] = format_of(data)
    notes[f"{data.path} is read as {known[name]}; name another one in data.format"] = None
    return replace(arm, config=_with_format(arm.config, known[name]))


def _with_format(config: Config, form: RowFormat) -> Config:
    document = config.document()
    document["data"]["format"] = form
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"]
        raise StageFailed("unknown_format", f"data.path: {config.data.path} is {form}: {reason}") from error
