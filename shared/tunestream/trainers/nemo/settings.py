"""How patient the adapter is with the services: ``TUNESTREAM_NEMO_*`` environment variables."""

from __future__ import annotations

from pydantic import Field

from tunestream.config.environment import EnvironmentSettings, variables

__all__ = ["NeMoSettings"]


class NeMoSettings(EnvironmentSettings):
    """Deadlines in seconds, and how often is tried."""

    model_config = variables("TUNESTREAM_NEMO_")

    connect_timeout: float = Field(default=5.0, gt=0)
    request_timeout: float = Field(default=60.0, gt=0, description="of one request, from first to last byte")
    upload_timeout: float = Field(default=900.0, gt=0, description="of one attempt to upload a dataset")
    attempts: int = Field(default=4, ge=1, description="of one request, when the service cannot answer")
    retry_delay: float = Field(default=0.5, gt=0, description="at most, before the first repeat; then twice")
    retry_max_delay: float = Field(default=15.0, gt=0)
    unknown_timeout: float = Field(default=600.0, gt=0, description="in a state that nobody knows")
    cancel_timeout: float = Field(default=600.0, gt=0, description="from the wish to the confirmed end")
    stall_timeout: float = Field(default=86_400.0, gt=0, description="without any change of a job")
    close_timeout: float = Field(default=10.0, gt=0, description="to cancel what runs")
