"""Why a job of the NeMo services ends."""

from __future__ import annotations

from tunestream.artifacts import ArtifactCorrupt, ArtifactError
from tunestream.trainers.port import TrainingFailed
from tunestream.trainers.remote import Refused, ServiceError

__all__ = ["failure_of", "lost_sight"]


def failure_of(error: ServiceError | ArtifactError) -> TrainingFailed:
    """Return why a job ends because of an error of a service, or of its dataset."""
    if isinstance(error, ArtifactError):
        code = "artifact_corrupt" if isinstance(error, ArtifactCorrupt) else "artifact_missing"
        return TrainingFailed(code, f"the dataset cannot be read: {error}")
    if not isinstance(error, Refused):
        return TrainingFailed("service_unreachable", f"the NeMo services cannot be reached: {error}")
    if error.status in {401, 403}:
        remedy = "check the variables that trainer.api_key_env and trainer.hf_token_env name"
        return TrainingFailed("unauthorized", f"the NeMo services refuse the token: {error}; {remedy}")
    return TrainingFailed("service_refused", f"the NeMo services refuse the job: {error}")


def lost_sight(error: ServiceError, remote: str) -> TrainingFailed:
    """Return why a watched job ends whose status cannot be read any more."""
    if isinstance(error, Refused) and error.status == 404:
        return TrainingFailed(
            "job_vanished", f"the customizer does not know its job {remote} any more: {error}"
        )
    return failure_of(error)
