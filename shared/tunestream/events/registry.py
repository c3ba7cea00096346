"""The registry of event types: which ``ce_type`` names which body.

A class registers where it stands, by :func:`event_type`. A type ends in the major version of its schema.
Within a major version fields are only added, and only optional ones.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Final, TypeVar

from pydantic import BaseModel

import tunestream.events

__all__ = ["UnregisteredType", "event_type", "event_types", "is_newer", "model_of", "type_of"]

# More digits than any version has, and fewer than make a number slow to read.
_TYPE: Final = re.compile(r"(?P<family>[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*)\.v(?P<major>[1-9][0-9]{0,8})")

Body = TypeVar("Body", bound=BaseModel)

_MODELS: Final[dict[str, type[BaseModel]]] = {}
_TYPES: Final[dict[type[BaseModel], str]] = {}


class UnregisteredType(LookupError):
    """A body has no event type, or an event type has no body; the message names what to register."""


def event_type(ce_type: str) -> Callable[[type[Body]], type[Body]]:
    """Register the class below as the body of an event type.

    Args:
        ce_type: the family and the major version, e.g. ``tunestream.ttc.candidate.v1``.

    Raises:
        ValueError: when the name is no event type, or another class has it.
    """
    if _TYPE.fullmatch(ce_type) is None:
        raise ValueError(f"{ce_type!r} is no event type; write family.vMAJOR, e.g. tunestream.tick.v1")

    def register(model: type[Body]) -> type[Body]:
        if (other := _MODELS.get(ce_type)) is not None:
            raise ValueError(f"{ce_type} is the type of {_place(other)}; give {_place(model)} another one")
        if model in _TYPES:
            raise ValueError(f"{_place(model)} has the type {_TYPES[model]} already")
        _MODELS[ce_type] = model
        _TYPES[model] = ce_type
        return model

    return register


def type_of(body: BaseModel | type[BaseModel]) -> str:
    """Return the ``ce_type`` of a body or of its class.

    Raises:
        UnregisteredType: when the class is not the body of an event.
    """
    model = body if isinstance(body, type) else type(body)
    try:
        return _TYPES[model]
    except KeyError:
        raise UnregisteredType(
            f"{_place(model)} has no event type; register it with "
            '@event_type("tunestream.NAME.v1") where the class stands'
        ) from None


def model_of(ce_type: str) -> type[BaseModel] | None:
    """Return the body class of a ``ce_type``, or None when the type is unknown."""
    return _MODELS.get(ce_type) or event_types().get(ce_type)


def event_types() -> Mapping[str, type[BaseModel]]:
    """Return the body class of every ``ce_type``; loads the modules of ``tunestream.events``."""
    _load()
    return MappingProxyType(_MODELS)


@cache
def _load() -> None:
    """Register every class: a reader of one family has not loaded the others."""
    for module in pkgutil.iter_modules(tunestream.events.__path__, f"{tunestream.events.__name__}."):
        importlib.import_module(module.name)


def is_newer(ce_type: str, known: Iterable[str]) -> bool:
    """Return whether a type is of a known family, with a higher major version than any known one.

    Args:
        ce_type: any text.
        known: event types that the reader takes.
    """
    found = _TYPE.fullmatch(ce_type)
    if found is None:
        return False
    majors = [
        int(one["major"]) for one in map(_TYPE.fullmatch, known) if one and one["family"] == found["family"]
    ]
    return bool(majors) and int(found["major"]) > max(majors)


def _place(model: type[BaseModel]) -> str:
    return f"{model.__module__}.{model.__qualname__}"
