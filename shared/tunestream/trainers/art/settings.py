"""How patient the adapter and its worker are: ``TUNESTREAM_ART_*`` environment variables."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from tunestream.config.environment import variables
from tunestream.trainers.worker.settings import WorkerSettings

__all__ = ["ARTSettings"]


class ARTSettings(WorkerSettings):
    """Deadlines in seconds, how often is tried, and the interpreter that has ART."""

    model_config = variables("TUNESTREAM_ART_")

    python: Path | None = Field(
        default=None,
        description="the interpreter of an environment with tunestream and openpipe-art; by default this one",
    )
    accelerate_config: Path | None = Field(default=None, description="not used: a job has one process here")
    stall_timeout: float = Field(default=90_000.0, gt=0, description="without a step, the worker is killed")
    connect_timeout: float = Field(default=5.0, gt=0)
    request_timeout: float = Field(default=120.0, gt=0, description="of one request")
    attempts: int = Field(default=4, ge=1, description="of one request, when the service cannot answer")
    retry_delay: float = Field(default=0.5, gt=0, description="at most, before the first repeat; then twice")
    retry_max_delay: float = Field(default=15.0, gt=0)
    poll_interval: float = Field(default=2.0, gt=0, description="between two looks at a job of the service")
    unreachable_timeout: float = Field(default=600.0, gt=0, description="of a service that trains a job")
    lost_timeout: float = Field(
        default=1800.0,
        gt=0,
        description="for a new step, when nobody answered that a job was taken; then it is sent again",
    )
    silent_timeout: float = Field(default=86_400.0, gt=0, description="without an event of a service's job")
    pull_timeout: float = Field(default=600.0, gt=0, description="to copy a checkpoint from the service")

    def environment(self) -> dict[str, str]:
        """Return the variables that give another process the same settings."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {f"TUNESTREAM_ART_{name.upper()}": str(value) for name, value in values.items()}
