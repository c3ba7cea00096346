"""Dead letters as the services write them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from tests.helpers.inbound import consumed
from tunestream.config.settings import KafkaSettings
from tunestream.domain.effects import Refused
from tunestream.events.keys import encode_key
from tunestream.streams.broker.client import make_producer
from tunestream.streams.letters.dead_letters import Headers, dead_letter_headers
from tunestream.topics import dlq_of

SOURCE, PARTITION, SERVICE = "ttc.events", 3, "ttc-collector"
ORIGINAL: Headers = [
    ("ce_id", b"the-id"),
    ("ce_time", b"2026-01-02T03:04:05.678Z"),
    ("ce_tslogtime", b"1767323045678"),
    ("binary", b"\xff\x00"),
]
BODY = b'{"score": \xff}'


async def write_letters(
    settings: KafkaSettings,
    codes: Iterable[str],
    *,
    source: str = SOURCE,
    partition: int = PARTITION,
    service: str = SERVICE,
    run: str = "run",
    time: int | None = None,
    body: bytes = BODY,
    headers: Headers = ORIGINAL,
) -> None:
    """Write a dead letter for each reason code; ``time`` in milliseconds, now when not given."""
    record = consumed(settings.topic(source), None, partition=partition, offset=17, key=None, headers=headers)
    queue, key = settings.topic(dlq_of(source)), encode_key(run, "e")
    async with make_producer(settings) as producer:
        deliveries = [
            await producer.send(
                queue,
                body,
                key,
                partition=partition,
                timestamp_ms=time,
                headers=dead_letter_headers(record, Refused(code, f"because {code}"), service),
            )
            for code in codes
        ]
        await asyncio.gather(*deliveries)
