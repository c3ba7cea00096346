"""The grid of an experiment's file: which of its values are lists where one value belongs."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from tunestream.config.files.document import Document, Keys
from tunestream.config.files.keys import fields_of

__all__ = ["Axis", "find_axes", "points"]


@dataclass(frozen=True, slots=True)
class Axis:
    """A key and the values that it takes, without repeats."""

    path: Keys
    values: tuple[Any, ...]


def find_axes(model: type[BaseModel], data: dict[str, Any], prefix: Keys = ()) -> Iterator[Axis]:
    """Yield the keys whose value is a list more deeply nested than ``model`` has it there.

    A scalar is swept by a list, a list by a list of lists.
    """
    for name, field in fields_of(model).items():
        value, path = data.get(name), (*prefix, name)
        if isinstance(value, list):
            if _nesting(value) > _most_nested(field.annotation):
                yield Axis(path, _distinct(value))
        elif isinstance(value, dict) and (section := _section(field.annotation)):
            yield from find_axes(section, value, path)


def points(document: Document, axes: Sequence[Axis]) -> Iterator[tuple[dict[Keys, Any], Document]]:
    """Yield each point of the grid and the document with one value in each place, the last axis fastest."""
    for chosen in product(*(axis.values for axis in axes)):
        settings = {axis.path: value for axis, value in zip(axes, chosen, strict=True)}
        data = copy.deepcopy(document.data)
        for path, value in settings.items():
            place = data
            for key in path[:-1]:
                place = place.setdefault(str(key), {})
            place[str(path[-1])] = copy.deepcopy(value)
        yield settings, Document(document.name, data, document.lines, document.renamed)


def _section(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _section(inner))), None)


def _most_nested(annotation: Any) -> int:
    inner = max((_most_nested(each) for each in get_args(annotation)), default=0)
    return inner + 1 if get_origin(annotation) is list else inner


def _nesting(value: Any) -> int:
    return 1 + max(map(_nesting, value), default=0) if isinstance(value, list) else 0


def _distinct(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple({json.dumps(value, sort_keys=True, default=str): value for value in values}.values())
