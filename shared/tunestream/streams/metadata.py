"""What the broker says about a topic, at once: clients alone would wait for one that is missing."""

from __future__ import annotations

import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_delay,
    wait_exponential,
)

from tunestream.config.settings import KafkaSettings
from tunestream.streams.client import MissingTopic, client_options

__all__ = ["await_broker", "partition_count"]

log = structlog.get_logger(__name__)


async def await_broker(settings: KafkaSettings, deadline: float) -> None:
    """Wait until the broker answers; services and broker are often started together.

    Args:
        settings: the broker.
        deadline: seconds.

    Raises:
        KafkaConnectionError: when it did not answer in time.
    """
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(KafkaConnectionError),
        stop=stop_after_delay(deadline),
        wait=wait_exponential(multiplier=0.1, max=2.0),
        before_sleep=_say_away,
        reraise=True,
    ):
        with attempt:
            client = AIOKafkaClient(**client_options(settings))
            try:
                await client.bootstrap()
            finally:
                await client.close()


def _say_away(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("broker.away", attempt=state.attempt_number, reason=str(error))


async def partition_count(settings: KafkaSettings, topic: str) -> int:
    """Return how many partitions a topic has.

    Args:
        settings: the broker.
        topic: the topic's name on the broker, with the prefix.

    Raises:
        MissingTopic: when the topic does not exist.
    """
    client = AIOKafkaClient(**client_options(settings))
    try:
        await client.bootstrap()
        found = (await client.fetch_all_metadata()).partitions_for_topic(topic)
    finally:
        await client.close()
    if not found:
        raise MissingTopic(topic)
    return len(found)
