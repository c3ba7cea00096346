"""Which errors of this package are whose: the broker is away, or what was asked of it is wrong."""

from __future__ import annotations

from typing import Final

from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnknownTopicOrPartitionError,
)

from tunestream.events.runs import NewerFormat
from tunestream.streams.broker.client import MissingTopic
from tunestream.streams.broker.unavailable import AWAY, BrokerUnavailable, why
from tunestream.streams.publish import DeliveryError, EventTooLarge
from tunestream.streams.table import TableTimeout

__all__ = ["in_words", "is_unavailable", "is_users_fault"]

_NOT_ALLOWED: Final = (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)


def is_unavailable(error: BaseException) -> bool:
    """Return whether the same call may succeed later, once the broker is back."""
    if isinstance(error, BrokerUnavailable):
        return error.passing
    if isinstance(error, DeliveryError):
        return isinstance(error.first, TimeoutError) or is_unavailable(error.first)
    return isinstance(error, (*AWAY, TableTimeout))


def is_users_fault(error: BaseException) -> bool:
    """Return whether what was asked was refused, e.g. for a missing topic, right or release."""
    refused = DeliveryError | EventTooLarge | MissingTopic | NewerFormat
    return isinstance(error, KafkaError | BrokerUnavailable | refused)


def in_words(error: BaseException) -> str:
    """Return what an error of this package or of the client means, in one sentence."""
    if isinstance(error, DeliveryError):
        return f"{error.count} records were not delivered; the first: {in_words(error.first)}"
    if isinstance(error, UnknownTopicOrPartitionError):
        return "a topic does not exist on the broker; run `tunestream topics apply`"
    if isinstance(error, _NOT_ALLOWED):
        return f"the broker does not allow it: {why(error)}"
    if isinstance(error, AWAY):
        return f"the broker is away: {why(error)}"
    return why(error) if isinstance(error, KafkaError) else str(error)
