"""Settings of the collector."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["CollectorSettings"]


class CollectorSettings(BaseSettings):
    """``TUNESTREAM_COLLECTOR_*`` environment variables."""

    model_config = SettingsConfigDict(env_prefix="TUNESTREAM_COLLECTOR_", extra="ignore", frozen=True)

    grace_seconds: float = Field(
        default=5.0, ge=0, description="how far an agent's clock may be ahead of the log's"
    )
