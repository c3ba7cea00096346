"""What can go wrong between the adapter and the services."""

from __future__ import annotations

from typing import Final

from tunestream.trainers.base import TrainingFailed

__all__ = ["Refused", "ServiceError", "Unavailable", "as_failure", "by_status"]

_TRANSIENT: Final = frozenset({408, 425, 429})
_LONGEST: Final = 500  # characters of an answer that a message quotes


class ServiceError(Exception):
    """A service did not do what it was asked for."""


class Unavailable(ServiceError):
    """A service could not be asked, or its answer made no sense. Another attempt may succeed."""


class Refused(ServiceError):
    """A service said no.

    Attributes:
        status: the HTTP status, 400 to 499.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def by_status(status: int, message: str) -> ServiceError:
    """Return the error for an HTTP status from 300 on."""
    text = message if len(message) <= _LONGEST else f"{message[:_LONGEST]}…"
    if 400 <= status < 500 and status not in _TRANSIENT:
        return Refused(status, text)
    return Unavailable(text)


def as_failure(error: ServiceError) -> TrainingFailed:
    """Say why a job ends because of ``error``."""
    if not isinstance(error, Refused):
        return TrainingFailed("service_unreachable", f"the NeMo services cannot be reached: {error}")
    if error.status in {401, 403}:
        remedy = "check the variables that trainer.api_key_env and trainer.hf_token_env name"
        return TrainingFailed("unauthorized", f"the NeMo services refuse the token: {error}; {remedy}")
    return TrainingFailed("service_refused", f"the NeMo services refuse the job: {error}")
