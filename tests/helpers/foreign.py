"""An agent in another language: librdkafka with its codecs, partitioner and headers."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence
from typing import Final

from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its classes are imported there only
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from tunestream.config.settings import KafkaSettings
from tunestream.events.keys import encode_key
from tunestream.events.registry import type_of
from tunestream.events.ttc import TTCCandidate, TTCExampleEnd, TTCTurnEnd

__all__ = ["CODECS", "Event", "compress_topic", "partition_of", "send"]

CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")
Event = TTCCandidate | TTCTurnEnd | TTCExampleEnd
_SECONDS: Final = 120


def send(kafka: KafkaSettings, events: Iterable[Event], codec: str, times: Sequence[str | None]) -> None:
    """Publish events in one go, in batches that are worth compressing.

    Args:
        kafka: the broker and the topics' prefix.
        events: in order.
        codec: of librdkafka, ``compression.type``.
        times: the ``ce_time`` of the first, second ... event, over again; None leaves the header out.
    """
    producer = Producer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "compression.type": codec,
            "enable.idempotence": True,
            "linger.ms": 200,
        }
    )
    failed: list[str] = []
    for number, event in enumerate(events):
        producer.produce(
            kafka.topic("ttc.events"),
            key=encode_key(event.run_id, event.example_id),
            value=json.dumps(event.model_dump(mode="json", exclude_none=True), ensure_ascii=True).encode(),
            headers=_headers(event, number, times[number % len(times)]),
            on_delivery=lambda error, _message: failed.append(str(error)) if error else None,
        )
        producer.poll(0)
    assert producer.flush(_SECONDS) == 0
    assert not failed


def partition_of(run_id: str, example_id: str, count: int) -> int:
    """Return where librdkafka's default partitioner (``consistent_random``) puts an example."""
    return zlib.crc32(encode_key(run_id, example_id)) % count


def compress_topic(kafka: KafkaSettings, codec: str) -> None:
    """Have the broker itself compress what is written to ``ttc.events``."""
    change = ConfigEntry("compression.type", codec, incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(ResourceType.TOPIC, kafka.topic("ttc.events"), incremental_configs=[change])
    client = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for done in client.incremental_alter_configs([topic]).values():
        done.result(_SECONDS)


def _headers(event: Event, number: int, time: str | None) -> list[tuple[str, str | bytes | None]]:
    """Return the envelope in another order than ours, with headers that mean nothing to us."""
    headers: list[tuple[str, str | bytes | None]] = [
        ("content-type", b"application/json; charset=utf-8"),
        ("x-tenant", b"\xff\x00"),
        ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("ce_type", type_of(event).encode()),
        ("empty", None),
        ("ce_source", b"urn:agent:librdkafka"),
        ("ce_id", b"%d" % number),
        ("ce_specversion", b"1.0"),
        ("x-tenant", b"twice"),
    ]
    return headers if time is None else [*headers, ("ce_time", time.encode())]
