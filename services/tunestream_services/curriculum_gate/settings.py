"""Settings of the curriculum gate."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["GateSettings"]


class GateSettings(BaseSettings):
    """``TUNESTREAM_GATE_*`` environment variables."""

    model_config = SettingsConfigDict(env_prefix="TUNESTREAM_GATE_", extra="ignore", frozen=True)

    store_deadline_seconds: float = Field(
        default=60.0, gt=0, description="for reading or writing one object of the artifact store"
    )
