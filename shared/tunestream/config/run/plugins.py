"""The backends that are installed, by the entry point group ``tunestream.trainer_backends``.

Those that come with tunestream are found as those of other distributions are.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Final

__all__ = ["GROUP", "NotInstalled", "installed_trainers", "load_trainer"]

GROUP: Final = "tunestream.trainer_backends"


class NotInstalled(ValueError):
    """Nobody brings a trainer of this ``_type``, or what brings it cannot be used."""


def installed_trainers() -> list[str]:
    """Return the ``_type`` of every trainer that is installed, sorted."""
    return sorted(_found(tuple(sys.path)))


def load_trainer(kind: str) -> object:
    """Return what a distribution describes as its trainer ``kind``; its ``config`` is a section.

    Raises:
        NotInstalled: when there is none of this name, several bring it, or it cannot be imported.
    """
    entries = _found(tuple(sys.path)).get(kind, ())
    if not entries:
        raise NotInstalled(f"_type {kind!r} is unknown")
    if len(entries) > 1:
        *others, last = sorted(_distribution(entry) for entry in entries)
        names = f"{', '.join(others)} and {last}"
        raise NotInstalled(f"_type {kind!r} is brought by several distributions, {names}: keep one of them")
    try:
        return entries[0].load()
    except (ImportError, AttributeError) as error:
        raise NotInstalled(
            f"_type {kind!r} cannot be loaded from {entries[0].value}: {error}; install what it needs"
        ) from error


# Looking through what is installed takes milliseconds, and every run that is read asks for it.
@lru_cache(maxsize=4)
def _found(path: tuple[str, ...]) -> Mapping[str, Sequence[EntryPoint]]:
    """Return the entry points of the group by name, as they are found on a ``sys.path``."""
    del path
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=GROUP):
        found.setdefault(entry.name, []).append(entry)
    return found


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.value
