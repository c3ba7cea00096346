"""What the broker knows of a topic, at once: clients alone would wait for one that is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiokafka.client import AIOKafkaClient

from tunestream.streams.client import MissingTopic, client_options

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = ["partition_count"]


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
