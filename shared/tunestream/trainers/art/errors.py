"""Why a job of ART ends."""

from __future__ import annotations

from tunestream.artifacts import ArtifactCorrupt, ArtifactError
from tunestream.trainers.port import TrainingFailed
from tunestream.trainers.remote import Refused, ServiceError

__all__ = ["as_failure", "failure_of"]


def as_failure(error: ServiceError) -> TrainingFailed:
    """Return why a job ends because of an error of the training service."""
    if not isinstance(error, Refused):
        return TrainingFailed("service_unreachable", f"ART's training service cannot be reached: {error}")
    if error.status in {401, 403}:
        remedy = "check the variable that trainer.backend.api_key_env names"
        return TrainingFailed("unauthorized", f"ART's training service refuses the key: {error}; {remedy}")
    return TrainingFailed("service_refused", f"ART's training service refuses: {error}")


def failure_of(error: Exception) -> TrainingFailed:
    """Return why a job ends from the error that was raised while it was trained."""
    if isinstance(error, TrainingFailed):
        return error
    if isinstance(error, ArtifactError):
        code = "artifact_corrupt" if isinstance(error, ArtifactCorrupt) else "artifact_missing"
        return TrainingFailed(code, f"an artifact cannot be read: {error}")
    if isinstance(error, ServiceError):
        return TrainingFailed("service_unreachable", f"ART's training service cannot be reached: {error}")
    return TrainingFailed("internal", f"{type(error).__name__}: {error} (the job's log has the traceback)")
