"""Settings of the trainer."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["TrainerSettings"]


class TrainerSettings(BaseSettings):
    """``TUNESTREAM_TRAINER_*`` environment variables."""

    model_config = SettingsConfigDict(env_prefix="TUNESTREAM_TRAINER_", extra="ignore", frozen=True)

    max_attempts: int = Field(default=5, ge=1, description="of a job whose worker or owner dies")
    attempt_delay_seconds: float = Field(
        default=1.0, gt=0, description="before the second attempt; doubled before each later one"
    )
    rejoin_seconds: float = Field(
        default=10.0, gt=0, description="how long a worker goes on while its partition is away"
    )
    cancel_grace_seconds: float = Field(
        default=120.0, gt=0, description="for a worker to finish its step and checkpoint, then it is killed"
    )
    warm_start: bool = Field(default=True, description="start the worker before the first job comes")
