"""Settings of the pair builder."""

from __future__ import annotations

from pydantic import Field

from tunestream.config.environment import EnvironmentSettings, variables

__all__ = ["PairBuilderSettings"]


class PairBuilderSettings(EnvironmentSettings):
    """``TUNESTREAM_PAIR_BUILDER_*`` environment variables."""

    model_config = variables("TUNESTREAM_PAIR_BUILDER_")

    largest_group_bytes: int = Field(
        default=4 << 20, ge=1024, description="a larger group goes to the artifact store"
    )
