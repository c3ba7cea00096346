"""Where the scores of a run come from."""

from __future__ import annotations

from pydantic import Field

from tunestream.config.run.section import Section

__all__ = ["RewardFunctionConfig"]


class RewardFunctionConfig(Section):
    """Where scores come from: the name of the workflow's scorer or evaluator."""

    name: str = Field(min_length=1)
