"""Trainers that other distributions bring, by the entry point group ``tunestream.trainer_backends``."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Final

__all__ = ["GROUP", "NotInstalled", "installed_trainers", "load_trainer"]

GROUP: Final = "tunestream.trainer_backends"


class NotInstalled(ValueError):
    """Nobody brings a trainer of this ``_type``, or what brings it cannot be used."""


def installed_trainers() -> list[str]:
    """Return the ``_type`` of every trainer that another distribution brings."""
    return sorted(_found())


@cache
def load_trainer(kind: str) -> object:
    """Return what another distribution describes as its trainer ``kind``; its ``config`` is a section.

    What was found is remembered: looking through what is installed takes a while.

    Raises:
        NotInstalled: when there is none of this name, or it cannot be imported.
    """
    entry = _found().get(kind)
    if entry is None:
        raise NotInstalled(f"_type {kind!r} is unknown")
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise NotInstalled(
            f"_type {kind!r} cannot be loaded from {entry.value}: {error}; install what it needs"
        ) from error


def _found() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
