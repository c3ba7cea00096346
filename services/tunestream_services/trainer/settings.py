"""Settings of the trainer."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from tunestream.config.environment import EnvironmentSettings, variables
from tunestream.serving.updater import Timing
from tunestream.trainers.retry import Retry

__all__ = ["TrainerSettings"]


class TrainerSettings(EnvironmentSettings):
    """``TUNESTREAM_TRAINER_*`` environment variables."""

    model_config = variables("TUNESTREAM_TRAINER_")

    max_attempts: int = Field(default=5, ge=1, description="of a job whose worker, owner or service fails")
    attempt_delay_seconds: float = Field(
        default=1.0, gt=0, description="before the second attempt; doubled before each later one"
    )
    rejoin_seconds: float = Field(
        default=10.0, gt=0, description="how long a worker goes on while its partition is away"
    )
    cancel_grace_seconds: float = Field(
        default=120.0, gt=0, description="for a canceled job to end by itself; then the worker is killed"
    )
    warm_start: bool = Field(default=True, description="start the worker when a run that needs it is applied")
    max_remote_jobs: int = Field(
        default=8, ge=1, description="that other services train at a time, beside the one of this machine"
    )
    serving_folder: Path | None = Field(
        default=None, description="that model servers share, for copies of versions from a remote store"
    )
    serving_check_seconds: float = Field(
        default=10.0, gt=0, description="between two looks at a model server"
    )
    serving_retry_seconds: float = Field(
        default=10.0, gt=0, description="longest wait before a model server is tried again"
    )
    serving_request_seconds: float = Field(default=60.0, gt=0, description="for a model server to answer")

    def retry(self) -> Retry:
        """Return when another attempt of a job follows a broken one."""
        return Retry(max_attempts=self.max_attempts, delay=self.attempt_delay_seconds)

    def serving_timing(self) -> Timing:
        """Return the waits of the serving updater."""
        return Timing(
            check_seconds=self.serving_check_seconds,
            retry_seconds=self.serving_retry_seconds,
            request_seconds=self.serving_request_seconds,
        )
