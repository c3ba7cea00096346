"""Which groups train when: by default easy ones first, more of them by steps."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    SerializeAsAny,
    Tag,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    WrapValidator,
)

from tunestream.config.run.plugins import NotInstalled, installed_strategies, load_strategy, section_in
from tunestream.config.run.section import Section, kind_of

__all__ = [
    "CurriculumLearning",
    "CurriculumLearningConfig",
    "CurriculumSection",
    "ForeignCurriculumConfig",
    "strategy_section",
]

_PERCENTILE: Final = "percentile"
_OTHER: Final = "other"


class CurriculumSection(Section):
    """What every curriculum has.

    A custom strategy subclasses it, with a literal ``type`` whose default is its name.
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
    """The section of a strategy that cannot read it here, or is not installed: kept as it was written."""

    model_config = ConfigDict(extra="allow")


def strategy_section(kind: str) -> type[CurriculumSection]:
    """Return the section of a strategy that another distribution brings.

    Raises:
        NotInstalled: when there is none, or its description has no section.
    """
    return section_in(load_strategy(kind), kind, CurriculumSection)


def _kind(value: object) -> str | None:
    kind = kind_of(value, default=_PERCENTILE)
    return kind if kind is None or kind == _PERCENTILE else _OTHER


def _of_plugin(value: object, handler: object, info: ValidationInfo) -> CurriculumSection:
    """Read the section of a strategy that another distribution brings.

    Where a record is read, which gives a context, one that cannot be read here is kept as it is.
    """
    del handler
    if isinstance(value, CurriculumSection):
        return value
    try:
        return strategy_section(str(kind_of(value, default=_PERCENTILE))).model_validate(value)
    except NotInstalled as missing:
        if info.context:
            return ForeignCurriculumConfig.model_validate(value)
        known = ", ".join(map(repr, [_PERCENTILE, *installed_strategies()]))
        raise ValueError(f"{missing}; choose one of {known}") from missing
    except ValidationError:
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
