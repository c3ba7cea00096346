"""Settings of the curriculum gate."""

from __future__ import annotations

from pydantic import Field

from tunestream.config.environment import EnvironmentSettings, variables

__all__ = ["GateSettings"]


class GateSettings(EnvironmentSettings):
    """``TUNESTREAM_GATE_*`` environment variables."""

    model_config = variables("TUNESTREAM_GATE_")

    store_deadline_seconds: float = Field(
        default=60.0, gt=0, description="for reading or writing one object of the artifact store"
    )
