"""Which groups train when: by default easy ones first, more of them by steps."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Final, Literal

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    SerializeAsAny,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    WrapValidator,
)

from tunestream.config.run.section import Section, kind_of

__all__ = [
    "STRATEGY_GROUP",
    "CurriculumLearning",
    "CurriculumLearningConfig",
    "CurriculumSection",
    "ForeignCurriculumConfig",
    "UnknownStrategy",
    "load_strategy",
    "strategy_section",
]

STRATEGY_GROUP: Final = "tunestream.curriculum_strategies"
"""The entry point group by which other distributions bring strategies."""

_PERCENTILE: Final = "percentile"
_OTHER: Final = "other"


class UnknownStrategy(ValueError):
    """Nobody brings a curriculum strategy of this ``_type``, or what brings it cannot be used."""


class CurriculumSection(Section):
    """What every curriculum has.

    A strategy of one's own subclasses it, with a literal ``type`` whose default is its name.
    """

    type: str = Field(alias="_type")
    enabled: bool = False
    """Without it all groups of a window train."""


def _is_percentile(kind: str) -> bool:
    return kind == _PERCENTILE


class CurriculumLearningConfig(CurriculumSection):
    """Selection of a window's groups by their mean reward."""

    # Never written: the digest of a run that was applied before there were other strategies stays.
    type: Literal["percentile"] = Field(default=_PERCENTILE, alias="_type", exclude_if=_is_percentile)
    initial_percentile: float = Field(default=0.3, gt=0.0, le=1.0)
    """Share of the ranked groups that train at first."""
    increment_percentile: float = Field(default=0.2, gt=0.0, le=1.0)
    """Added to the share at each expansion."""
    expansion_interval: int = Field(default=5, ge=1)
    """Windows between expansions."""
    min_reward_diff: float = Field(default=0.1, ge=0.0)
    """Groups whose rewards differ by less teach nothing and are left out."""
    sort_ascending: bool = False
    """Lowest mean reward first; by default the highest, i.e. from easy to hard."""
    random_subsample: float | None = Field(default=None, gt=0.0, le=1.0)
    """Train on at most this share of the window's ranked groups, drawn by `batching.seed`."""


class ForeignCurriculumConfig(CurriculumSection):
    """The section of a strategy that is not installed here, kept as another process wrote it."""

    model_config = ConfigDict(extra="allow")


def load_strategy(kind: str) -> object:
    """Return what another distribution describes as its strategy ``kind``; its ``config`` is a section.

    Raises:
        UnknownStrategy: when there is none of this name, several bring it, or it cannot be imported.
    """
    found = _found(tuple(sys.path))
    entries = found.get(kind, [])
    if not entries:
        known = ", ".join(map(repr, [_PERCENTILE, *sorted(found)]))
        raise UnknownStrategy(f"_type {kind!r} is unknown; choose one of {known}")
    if len(entries) > 1:
        names = " and ".join(sorted(entry.dist.name if entry.dist else entry.value for entry in entries))
        raise UnknownStrategy(f"_type {kind!r} is brought by {names}; keep one of them")
    try:
        return entries[0].load()
    except (ImportError, AttributeError) as error:
        raise UnknownStrategy(
            f"_type {kind!r} cannot be loaded from {entries[0].value}: {error}; install what it needs"
        ) from error


def strategy_section(kind: str) -> type[CurriculumSection]:
    """Return the section of a strategy that another distribution brings.

    Raises:
        UnknownStrategy: when there is none, or its description has no section.
    """
    section = getattr(load_strategy(kind), "config", None)
    if not (isinstance(section, type) and issubclass(section, CurriculumSection)):
        raise UnknownStrategy(f"_type {kind!r} names something without a CurriculumSection as its config")
    return section


# Looking through what is installed takes milliseconds, and every run that is read may ask for it.
@lru_cache(maxsize=4)
def _found(path: tuple[str, ...]) -> Mapping[str, list[EntryPoint]]:
    """Return the entry points of the group by name, as they are found on a ``sys.path``."""
    del path
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=STRATEGY_GROUP):
        found.setdefault(entry.name, []).append(entry)
    return found


def _kind(value: object) -> str | None:
    kind = kind_of(value, default=_PERCENTILE)
    return kind if kind is None or kind == _PERCENTILE else _OTHER


def _of_plugin(value: object, handler: object, info: ValidationInfo) -> CurriculumSection:
    """Read the section of a strategy that another distribution brings.

    One that is not installed here is kept as it is where a record is read, which gives a context.
    """
    del handler
    if isinstance(value, CurriculumSection):
        return value
    try:
        return strategy_section(str(kind_of(value, default=_PERCENTILE))).model_validate(value)
    except UnknownStrategy:
        if info.context:
            return ForeignCurriculumConfig.model_validate(value)
        raise


CurriculumLearning = Annotated[
    Annotated[CurriculumLearningConfig, Tag(_PERCENTILE)]
    | Annotated[
        SerializeAsAny[CurriculumSection],
        WrapValidator(_of_plugin),
        WithJsonSchema(
            {
                "type": "object",
                "description": "Selection by a strategy that another distribution brings.",
                "properties": {"_type": {"type": "string", "not": {"const": _PERCENTILE}}},
                "required": ["_type"],
            }
        ),
        Tag(_OTHER),
    ],
    Discriminator(_kind),
]
