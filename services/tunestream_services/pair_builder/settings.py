"""Settings of the pair builder."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["PairBuilderSettings"]


class PairBuilderSettings(BaseSettings):
    """``TUNESTREAM_PAIR_BUILDER_*`` environment variables."""

    model_config = SettingsConfigDict(env_prefix="TUNESTREAM_PAIR_BUILDER_", extra="ignore", frozen=True)

    largest_group_bytes: int = Field(
        default=4 << 20, ge=1024, description="a larger group goes to the artifact store"
    )
