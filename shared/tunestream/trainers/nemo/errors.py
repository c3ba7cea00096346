"""Why a job of the NeMo services ends."""

from __future__ import annotations

from tunestream.trainers.port import TrainingFailed
from tunestream.trainers.remote import Refused, ServiceError

__all__ = ["as_failure"]


def as_failure(error: ServiceError) -> TrainingFailed:
    """Say why a job ends because of ``error``."""
    if not isinstance(error, Refused):
        return TrainingFailed("service_unreachable", f"the NeMo services cannot be reached: {error}")
    if error.status in {401, 403}:
        remedy = "check the variables that trainer.api_key_env and trainer.hf_token_env name"
        return TrainingFailed("unauthorized", f"the NeMo services refuse the token: {error}; {remedy}")
    return TrainingFailed("service_refused", f"the NeMo services refuse the job: {error}")
