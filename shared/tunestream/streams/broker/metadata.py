"""What the broker knows of topics, at once: clients alone would wait for one that is missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from aiokafka.client import AIOKafkaClient

from tunestream.streams.broker.client import MissingTopic, client_options
from tunestream.streams.broker.unavailable import reaching

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = ["partition_count", "partition_counts"]


async def partition_count(settings: KafkaSettings, topic: str) -> int:
    """Return how many partitions a topic has.

    Args:
        settings: the broker.
        topic: the topic's name on the broker, with the prefix.

    Raises:
        MissingTopic: when the topic does not exist.
        BrokerUnavailable: when no broker answers.
    """
    return (await partition_counts(settings, [topic]))[topic]


async def partition_counts(settings: KafkaSettings, topics: Iterable[str]) -> dict[str, int]:
    """Return how many partitions each of several topics has; see :func:`partition_count`."""
    client = AIOKafkaClient(**client_options(settings))
    try:
        async with reaching(settings):
            await client.bootstrap()
            cluster = await client.fetch_all_metadata()
    finally:
        await client.close()
    found = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
    if missing := [topic for topic, count in found.items() if not count]:
        raise MissingTopic(missing[0])
    return found
