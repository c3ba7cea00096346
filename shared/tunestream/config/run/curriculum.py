"""Which groups train when: easy ones first, more of them by steps."""

from __future__ import annotations

from pydantic import Field

from tunestream.config.run.section import Section

__all__ = ["CurriculumLearningConfig"]


class CurriculumLearningConfig(Section):
    """Selection of a window's groups by their mean reward."""

    enabled: bool = False
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
