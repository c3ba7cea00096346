"""Kafka clients made from settings: sizes and time-outs in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaProducer

from tunestream.streams.broker.options import client_options
from tunestream.streams.fetch.consumer import Consumer, PlainConsumer
from tunestream.topics import CATALOGUE

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = [
    "MissingPartition",
    "MissingTopic",
    "make_consumer",
    "make_producer",
    "make_transactional_producer",
]

# Two minutes let a transaction outlive a broker's restart; the broker ends it after that.
TRANSACTION_TIMEOUT_MS: Final = 120_000
# Records of ~1.6 kB: the client's 16 kB batches would hold ten of them.
BATCH_BYTES: Final = 1 << 20
# The largest record that any topic takes, and a request around it.
MAX_REQUEST_BYTES: Final = max(topic.max_message_bytes for topic in CATALOGUE) + (1 << 20)
FETCH_BYTES: Final = 2 << 20


class MissingTopic(Exception):
    """A topic of the catalogue does not exist on the broker."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"topic {topic} does not exist on the broker; run `tunestream topics apply`")
        self.topic = topic


class MissingPartition(Exception):
    """A topic of the catalogue has fewer partitions than an input."""

    def __init__(self, topic: str, partition: int) -> None:
        super().__init__(
            f"topic {topic} has no partition {partition}, and an input has: what is written there waits; "
            "partitions are added under another prefix: docs/operations.md, Topics"
        )
        self.topic = topic


def make_producer(settings: KafkaSettings, **options: Any) -> AIOKafkaProducer:
    """Return an idempotent producer; a record counts when all in-sync replicas have it."""
    return AIOKafkaProducer(**_producer_options(settings) | options, enable_idempotence=True)


def make_transactional_producer(
    settings: KafkaSettings,
    transactional_id: str,
    *,
    timeout_ms: int = TRANSACTION_TIMEOUT_MS,
    compression: str | None = None,
) -> AIOKafkaProducer:
    """Return the one producer that may write under ``transactional_id``; starting it fences others.

    Args:
        settings: the broker.
        transactional_id: with the deployment's prefix.
        timeout_ms: after which the broker ends a transaction that its producer has left open.
        compression: of what is written, a codec's name.
    """
    return AIOKafkaProducer(
        **_producer_options(settings),
        transactional_id=transactional_id,
        transaction_timeout_ms=timeout_ms,
        compression_type=compression,
    )


def _producer_options(settings: KafkaSettings) -> dict[str, Any]:
    return client_options(settings) | {
        "acks": "all",
        "max_batch_size": BATCH_BYTES,
        "max_request_size": MAX_REQUEST_BYTES,
    }


def make_consumer(
    settings: KafkaSettings, *topics: str, undecodable: bool = False, **options: Any
) -> PlainConsumer:
    """Return a consumer of committed records outside any group, from the beginning by default.

    Args:
        settings: the broker.
        *topics: to read; none when partitions are assigned later.
        undecodable: deliver what cannot be decoded as :class:`.Undecodable` records; else a poll raises.
        **options: as the client takes them.
    """
    defaults: dict[str, Any] = {
        "enable_auto_commit": False,
        "isolation_level": "read_committed",
        "auto_offset_reset": "earliest",
        "max_partition_fetch_bytes": FETCH_BYTES,
    }
    kind = Consumer if undecodable else PlainConsumer
    return kind(*topics, **client_options(settings) | defaults | options)
