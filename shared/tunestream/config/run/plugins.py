"""What is installed and chosen in a run's file by ``_type``: trainer backends and curriculum strategies.

Backends that come with tunestream are found by entry point, as those of other distributions are.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Final, TypeVar

__all__ = [
    "STRATEGIES",
    "TRAINERS",
    "NotInstalled",
    "installed_strategies",
    "installed_trainers",
    "load_strategy",
    "load_trainer",
    "section_in",
]

Base = TypeVar("Base")

TRAINERS: Final = "tunestream.trainer_backends"
"""The entry point group of trainer backends."""
STRATEGIES: Final = "tunestream.curriculum_strategies"
"""The entry point group of curriculum strategies."""


class NotInstalled(ValueError):
    """Nobody brings what this ``_type`` names, or what brings it cannot be used."""


def installed_trainers() -> list[str]:
    """Return the ``_type`` of every trainer that is installed, sorted."""
    return sorted(_found(TRAINERS, tuple(sys.path)))


def installed_strategies() -> list[str]:
    """Return the ``_type`` of every strategy that is installed, sorted; ``percentile`` is built in."""
    return sorted(_found(STRATEGIES, tuple(sys.path)))


def load_trainer(kind: str) -> object:
    """Return what a distribution describes as its trainer ``kind``; its ``config`` is a section.

    Raises:
        NotInstalled: when there is none of this name, several bring it, or it cannot be imported.
    """
    return _load(TRAINERS, kind)


def load_strategy(kind: str) -> object:
    """Return what a distribution describes as its strategy ``kind``; its ``config`` is a section.

    Raises:
        NotInstalled: when there is none of this name, several bring it, or it cannot be imported.
    """
    return _load(STRATEGIES, kind)


def _load(group: str, kind: str) -> object:
    entries = _found(group, tuple(sys.path)).get(kind, ())
    if not entries:
        raise NotInstalled(f"_type {kind!r} is unknown")
    if len(entries) > 1:
        *others, last = sorted(_distribution(entry) for entry in entries)
        names = f"{', '.join(others)} and {last}"
        raise NotInstalled(f"_type {kind!r} is brought by several distributions, {names}: keep one of them")
    try:
        return entries[0].load()
    except Exception as error:  # their code may raise anything, and who only reads a run goes on
        raise NotInstalled(
            f"_type {kind!r} cannot be loaded from {entries[0].value}: {error}; install what it needs"
        ) from error


# Looking through what is installed takes milliseconds, and every run that is read asks for it.
@lru_cache(maxsize=8)
def _found(group: str, path: tuple[str, ...]) -> Mapping[str, Sequence[EntryPoint]]:
    """Return the entry points of a group by name, as they are found on a ``sys.path``."""
    del path
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=group):
        found.setdefault(entry.name, []).append(entry)
    return found


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.value


def section_in(description: object, kind: str, base: type[Base]) -> type[Base]:
    """Return the section that an installed description has as its ``config``.

    Raises:
        NotInstalled: when it is no subclass of ``base``.
    """
    section = getattr(description, "config", None)
    if not (isinstance(section, type) and issubclass(section, base)):
        raise NotInstalled(f"_type {kind!r} names something without a {base.__name__} as its config")
    return section
