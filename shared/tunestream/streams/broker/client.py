"""Kafka clients made from settings: security, sizes and time-outs in one place."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tunestream.streams.fetch.consumer import Consumer
from tunestream.topics import CATALOGUE

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = [
    "REQUEST_TIMEOUT_MS",
    "MissingPartition",
    "MissingTopic",
    "client_options",
    "make_consumer",
    "make_producer",
    "make_transactional_producer",
    "ssl_context",
]

REQUEST_TIMEOUT_MS: Final = 20_000
# Two minutes let a transaction outlive a broker's restart; the broker ends it after that.
TRANSACTION_TIMEOUT_MS: Final = 120_000
# Records of ~1.6 kB: the client's 16 kB batches would hold ten of them.
BATCH_BYTES: Final = 1 << 20
# The largest record that any topic takes, and a request around it.
MAX_REQUEST_BYTES: Final = max(topic.max_message_bytes for topic in CATALOGUE) + (1 << 20)
FETCH_BYTES: Final = 4 << 20


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


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """Return what every aiokafka client of this deployment is given.

    Raises:
        FileNotFoundError: when a certificate file does not exist.
        ssl.SSLError: when a certificate cannot be read.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "security_protocol": settings.security_protocol,
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
    }
    if settings.security_protocol.startswith("SASL"):
        assert settings.sasl_password is not None
        options |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password.get_secret_value(),
        }
    if settings.security_protocol.endswith("SSL"):
        options["ssl_context"] = ssl_context(settings)
    return options


def ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    """Return the TLS context of this deployment."""
    context = ssl.create_default_context(cafile=settings.ssl_ca_file)
    context.check_hostname = settings.ssl_check_hostname
    if settings.ssl_cert_file is not None:
        context.load_cert_chain(settings.ssl_cert_file, settings.ssl_key_file)
    return context


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
) -> AIOKafkaConsumer:
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
    kind = Consumer if undecodable else AIOKafkaConsumer
    return kind(*topics, **client_options(settings) | defaults | options)
