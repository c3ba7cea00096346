"""Which errors of this package are whose: the broker is away, or what was asked of it is wrong."""

from __future__ import annotations

from aiokafka.errors import (
    BrokerNotAvailableError,
    KafkaError,
    KafkaTimeoutError,
    KafkaUnavailableError,
    LeaderNotAvailableError,
    NodeNotReadyError,
    RequestTimedOutError,
)
from aiokafka.errors import (
    KafkaConnectionError as ClientConnectionError,
)

from tunestream.events.runs import NewerFormat
from tunestream.streams.client import MissingTopic
from tunestream.streams.publish import DeliveryError, EventTooLarge
from tunestream.streams.table import TableTimeout

__all__ = ["is_unavailable", "is_users_fault"]

_AWAY = (
    BrokerNotAvailableError,
    ClientConnectionError,
    KafkaTimeoutError,
    KafkaUnavailableError,
    LeaderNotAvailableError,
    NodeNotReadyError,
    RequestTimedOutError,
)


def is_unavailable(error: BaseException) -> bool:
    """Return whether the same call may succeed later, once the broker is back."""
    if isinstance(error, DeliveryError):
        return isinstance(error.first, TimeoutError) or is_unavailable(error.first)
    return isinstance(error, (*_AWAY, TableTimeout))


def is_users_fault(error: BaseException) -> bool:
    """Return whether what was asked was refused, e.g. for a missing topic, right or release."""
    return isinstance(error, KafkaError | DeliveryError | EventTooLarge | MissingTopic | NewerFormat)
