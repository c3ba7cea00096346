"""Tables of a run's configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tools.docs.differences import DIFFERENCES
from tools.wire.readme import table
from tunestream.config.experiment.experiment import Config
from tunestream.config.files.keys import fields_of
from tunestream.config.nat.inert import INERT
from tunestream.config.run.curriculum import CurriculumSection
from tunestream.config.run.durations import format_duration
from tunestream.config.run.run import RunConfig
from tunestream.config.run.trainers import TrainerSection, trainer_section

__all__ = ["run_tables"]

_SHARED: Final = ("model", "lora", "training")  # sections of an experiment that a run has as well
_TRAINERS: Final = ("trl", "openpipe_art_trainer_adapter", "nemo_customizer_trainer_adapter")
_SIGNS: Final = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_PLAIN: Final = {"str": "text", "int": "whole number", "float": "number", "bool": "`true`, `false`"}


def run_tables() -> dict[str, str]:
    """Return the tables by the name of their block."""
    return {
        "run-fields": _run_fields(),
        "experiment-fields": _experiment_fields(),
        "differences": _differences(),
        "not-yet": _not_yet(),
    }


def _run_fields() -> str:
    sections: list[tuple[str, type[BaseModel]]] = [("", RunConfig), *_sections(RunConfig, "")]
    return "\n\n".join(_section(path, model) for path, model in sections)


def _experiment_fields() -> str:
    own = [(path, model) for path, model in _sections(Config, "") if path.split(".")[0] not in _SHARED]
    sections: list[tuple[str, type[BaseModel]]] = [("", Config), *own]
    return "\n\n".join(_section(path, model, whole="The experiment") for path, model in sections)


def _sections(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield each section with its dotted path, and each kind of it."""
    for key, field in fields_of(model).items():
        for inner in _models(field.annotation):
            place = f"{path}.{key}".removeprefix(".")
            yield place, inner
            yield from _sections(inner, place)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if annotation is CurriculumSection:  # what all have stands in the table of the one that is ours
        return
    if annotation is TrainerSection:
        yield from (trainer_section(kind) for kind in _TRAINERS)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation is not BaseModel:
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _section(path: str, model: type[BaseModel], *, whole: str = "The run") -> str:
    kind = model.model_fields.get("type")
    heading = f"`{path}`" if path else whole
    if kind is not None:
        heading += f" with `_type: {kind.default}`"
    summary = (model.__doc__ or "").strip().splitlines()[0].replace("``", "`")
    rows = [_row(key, field) for key, field in fields_of(model).items() if key != "_type"]
    return f"### {heading}\n\n{summary}\n\n{table(('key', 'default', 'takes', 'what it does'), rows)}"


def _row(key: str, field: FieldInfo) -> tuple[str, ...]:
    default = "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
    return f"`{key}`", default, _takes(field), " ".join((field.description or "").split())


def _default(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "its defaults"
    if isinstance(value, timedelta):
        return f"`{format_duration(value)}`"
    if isinstance(value, Path):
        return f"`{value}`"
    return f"`{json.dumps(value)}`".replace('"', "")


def _takes(field: FieldInfo) -> str:
    kinds = dict.fromkeys(_kinds(field.annotation))
    bounds = [
        f"{sign} {getattr(bound, name):g}"
        for bound in field.metadata
        for name, sign in _SIGNS.items()
        if getattr(bound, name, None) is not None
    ]
    return " ".join([" or ".join(kinds), *bounds])


def _kinds(annotation: Any) -> Iterator[str]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is NoneType:
        return
    if origin is Literal:
        yield ", ".join(f"`{value}`" for value in arguments)
    elif origin in {list, tuple}:
        yield "a list"
    elif origin is dict or annotation is dict:
        yield "a map"
    elif arguments:
        for argument in arguments:
            yield from _kinds(argument)
    elif isinstance(annotation, type):
        yield from _named(annotation)


def _named(annotation: type) -> Iterator[str]:
    if issubclass(annotation, BaseModel):
        yield "a section"
    elif issubclass(annotation, Enum):
        yield ", ".join(f"`{member.value}`" for member in annotation)
    elif annotation is timedelta:
        yield "a duration"
    else:
        yield _PLAIN.get(annotation.__name__, "a path")


def _differences() -> str:
    rows = [(f"`{one.field}`", one.reference, one.ours, one.why) for one in DIFFERENCES]
    return table(("key", "reference", "here", "why"), rows)


def _not_yet() -> str:
    rows = [(f"`{'.'.join(map(str, path))}`", one.remedy) for path, one in INERT.items()]
    rows.append(("`trainer.inference` of `trl`", "generation is the serving side's"))
    return table(("key", "what to know"), rows)
