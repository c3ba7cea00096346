"""The tree of configuration keys, for messages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tunestream.config.files.document import Document, Keys, dotted
from tunestream.config.run.curriculum import CurriculumSection, strategy_section
from tunestream.config.run.plugins import NotInstalled
from tunestream.config.run.trainers import DEFAULT_TRAINER, TrainerSection, trainer_section

__all__ = ["fields_of", "suggestion"]


def fields_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return a section's fields by the key that a file uses."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections_in(argument)


def _all_keys(model: type[BaseModel], document: Document, prefix: Keys = ()) -> Iterator[Keys]:
    """Yield the path of every key that the document's kinds of sections have."""
    for key, field in fields_of(model).items():
        path = (*prefix, key)
        yield path
        section = _chosen(field, document.at(path))
        if section:
            yield from _all_keys(section, document, path)


def _keys_at(model: type[BaseModel], document: Document, path: Keys) -> list[str]:
    """Return the valid keys of the section at ``path``."""
    section: type[BaseModel] | None = model
    for depth, key in enumerate(path):
        if isinstance(key, int):
            continue
        field = fields_of(section).get(key) if section else None
        section = _chosen(field, document.at(path[: depth + 1])) if field else None
    return list(fields_of(section)) if section else []


def _chosen(field: FieldInfo, value: Any) -> type[BaseModel] | None:
    sections = list(_sections_in(field.annotation))
    kind = (value.get("_type") or value.get("type")) if isinstance(value, dict) else None
    if TrainerSection in sections:
        return _trainer(str(kind or DEFAULT_TRAINER))
    of_kind = [section for section in sections if _kind(section) == kind]
    if not of_kind and kind and CurriculumSection in sections:
        with contextlib.suppress(NotInstalled):
            return strategy_section(str(kind))
    return next(iter(of_kind or sections), None)


def _trainer(kind: str) -> type[BaseModel]:
    try:
        return trainer_section(kind)
    except NotInstalled:
        return TrainerSection


def _kind(section: type[BaseModel]) -> object:
    field = section.model_fields.get("type")
    return field.default if field else None


def suggestion(model: type[BaseModel], document: Document, path: Keys) -> str:
    """Name the valid key that is nearest to the unknown one at ``path``."""
    key, siblings = str(path[-1]), _keys_at(model, document, path[:-1])
    close = get_close_matches(key, siblings, n=1, cutoff=0.75)
    if close:
        return f"did you mean {close[0]!r}?"
    elsewhere = [dotted(other) for other in _all_keys(model, document) if other[-1] == key]
    if elsewhere:
        return f"it belongs at {' or '.join(elsewhere)}"
    nearest = get_close_matches(key, siblings, n=1, cutoff=0.0)
    return f"the nearest key here is {nearest[0]!r}" if nearest else "this section takes no keys"
