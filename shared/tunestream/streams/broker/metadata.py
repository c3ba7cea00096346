"""What the broker knows of topics, at once: clients alone would wait for one that is missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from aiokafka.client import AIOKafkaClient

from tunestream.streams.broker.client import MissingTopic
from tunestream.streams.broker.options import client_options
from tunestream.streams.broker.unavailable import reaching

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = ["known_counts", "partition_count", "partition_counts"]


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
    wanted = list(topics)
    found = await known_counts(settings, wanted)
    if missing := [topic for topic in wanted if topic not in found]:
        raise MissingTopic(missing[0])
    return found


async def known_counts(settings: KafkaSettings, topics: Iterable[str]) -> dict[str, int]:
    """Return how many partitions those of several topics have that are there.

    Raises:
        BrokerUnavailable: when no broker answers.
    """
    client = AIOKafkaClient(**client_options(settings))
    try:
        async with reaching(settings):
            await client.bootstrap()
            cluster = await client.fetch_all_metadata()
    finally:
        await client.close()
    return {topic: len(found) for topic in topics if (found := cluster.partitions_for_topic(topic))}
