"""What can go wrong between a client and an HTTP service, and how often a request is tried again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

__all__ = ["Patience", "Refused", "ServiceError", "Unavailable", "by_status", "retry_after", "retrying"]

_TRANSIENT: Final = frozenset({408, 425, 429})
_LONGEST: Final = 500  # characters of an answer that a message quotes


class ServiceError(Exception):
    """A service did not do what it was asked for."""


class Unavailable(ServiceError):
    """A service could not be asked, or its answer made no sense. Another attempt may succeed.

    Attributes:
        retry_after: seconds after which the service wants to be asked again, None when it named none.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Refused(ServiceError):
    """A service refused the request.

    Attributes:
        status: the HTTP status, 400 to 499.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Patience(Protocol):
    """How often a request is tried, and the seconds between two attempts."""

    @property
    def attempts(self) -> int:
        """Of one request."""

    @property
    def retry_delay(self) -> float:
        """At most, before the first repeat; then twice."""

    @property
    def retry_max_delay(self) -> float:
        """Its bound."""


def by_status(status: int, message: str, *, retry_after: float | None = None) -> ServiceError:
    """Return the error for an HTTP status from 300 on."""
    text = message if len(message) <= _LONGEST else f"{message[:_LONGEST]}…"
    if 400 <= status < 500 and status not in _TRANSIENT:
        return Refused(status, text)
    return Unavailable(text, retry_after=retry_after)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a ``Retry-After`` header, None without one or when it is a date."""
    named = headers.get("retry-after", "")
    return float(named) if named.isdigit() else None


def retrying(patience: Patience) -> AsyncRetrying:
    """Return the one policy: a bounded number of attempts, with random delays of a doubling bound.

    A delay that the service names is kept instead, up to the longest that the policy allows.
    """
    random = wait_random_exponential(multiplier=patience.retry_delay, max=patience.retry_max_delay)

    def delay(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, Unavailable) and error.retry_after is not None:
            return min(error.retry_after, patience.retry_max_delay)
        return random(state)

    return AsyncRetrying(
        stop=stop_after_attempt(patience.attempts),
        wait=delay,
        retry=retry_if_exception_type(Unavailable),
        reraise=True,
    )
