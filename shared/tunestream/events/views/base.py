"""What a view is, and which event type has which.

The models of :mod:`tunestream.events` are the contract and the only source of refusals. A view is a faster
reading of the same bytes: it decodes what a stage decides on, and leaves texts, messages and metadata as
slices of JSON that later bodies are spliced from. What a view does not accept at once goes through the model,
which refuses it or gives the view.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Final, Self, TypeVar

import msgspec
from pydantic import BaseModel

import tunestream.events.views
from tunestream.events.views.slices import is_plain

__all__ = ["View", "view", "views_of"]

V = TypeVar("V", bound="type[View]")


class View(msgspec.Struct, frozen=True, gc=False):
    """A reading of one body. What it accepts, the model accepts with the same values."""

    @classmethod
    def read(cls, value: bytes) -> Self | None:
        """Return the view of a body, or None when the model has to decide."""
        if not is_plain(value):
            return None
        try:
            found = cls.decode(value)
        except (msgspec.DecodeError, RecursionError):
            return None
        return found if found.is_canonical() else None

    @classmethod
    def of(cls, body: Any) -> Self:
        """Return the view of a body that the model accepted."""
        return cls.decode(body.to_json())

    @classmethod
    def taken(cls, body: BaseModel) -> View | BaseModel:
        """Return what a service handles of a body that the model alone accepted: its view, mostly."""
        return cls.of(body)

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Return the view of a body, its slices unchecked.

        Raises:
            msgspec.DecodeError: when it is not even that.
        """
        raise NotImplementedError

    def is_canonical(self) -> bool:
        """Return whether the model accepts every slice, and would write it as it is."""
        raise NotImplementedError


_PACKAGE: Final = tunestream.events.views
_VIEWS: Final[dict[str, type[View]]] = {}


def view(ce_type: str) -> Callable[[V], V]:
    """Register the class below as the view of an event type."""

    def register(cls: V) -> V:
        _VIEWS[ce_type] = cls
        return cls

    return register


def views_of(types: Iterable[str]) -> dict[str, type[View]]:
    """Return the views of those of the event types that have one."""
    _load()
    return {name: _VIEWS[name] for name in types if name in _VIEWS}


@cache
def _load() -> None:
    for module in pkgutil.iter_modules(_PACKAGE.__path__, f"{_PACKAGE.__name__}."):
        importlib.import_module(module.name)
