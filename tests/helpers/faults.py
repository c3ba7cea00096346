"""What goes wrong with a stream, each in one partition."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from tests.helpers.raw_batches import write_batch
from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import Envelope
from tunestream.events.keys import encode_key
from tunestream.events.registry import type_of
from tunestream.events.runs import RunRecord
from tunestream.events.ttc import TTCCandidate
from tunestream.streams.broker.administration import administration
from tunestream.streams.broker.client import make_producer
from tunestream.streams.broker.options import client_options
from tunestream.streams.publish import EncodedRecord, EventProducer, event_record
from tunestream.topics import changelog_of

__all__ = [
    "candidate_of",
    "delete_unread",
    "open_transaction",
    "publish_bad_run",
    "publish_newer_state",
    "publish_undecodable",
]

_SECONDS: Final = 90
# Of a format that no release has: the first byte of a value is its version.
_NEWER: Final = b"\x08{}"


def candidate_of(run: str, partition: int) -> EncodedRecord:
    """Return a candidate of a turn of its own, for a partition of `ttc.events`."""
    example = uuid4().hex
    body = TTCCandidate(
        run_id=run,
        example_id=example,
        turn_id="turn",
        candidate_id="0",
        prompt="prompt",
        response="response",
        score=1.0,
    )
    envelope = Envelope(id=example, type=type_of(body), source="/agent")
    return replace(event_record("ttc.events", (run, example), body.to_json(), envelope), partition=partition)


@asynccontextmanager
async def open_transaction(kafka: KafkaSettings, record: EncodedRecord) -> AsyncIterator[None]:
    """Write a record in a transaction that stays open, as that of an agent that hangs."""
    producer = AIOKafkaProducer(
        **client_options(kafka), transactional_id=f"agent-{uuid4().hex}", transaction_timeout_ms=600_000
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        topic = kafka.topic(record.topic)
        await producer.send_and_wait(
            topic, record.value, record.key, record.partition, headers=list(record.headers)
        )
        yield
        await producer.abort_transaction()
    finally:
        await producer.stop()


async def delete_topics(kafka: KafkaSettings, *names: str) -> None:
    """Delete topics of the catalogue, and wait until the broker shows none of them."""
    gone = {kafka.topic(name) for name in names}
    async with administration(kafka) as admin, asyncio.timeout(_SECONDS):
        await admin.delete_topics(sorted(gone))
        while gone & set(await admin.list_topics()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def delete_unread(kafka: KafkaSettings, topic: str, partition: int) -> None:
    """Delete all records of a partition, as retention does."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    end = TopicPartition(kafka.topic(topic), partition, -1)  # -1: all there are
    for done in admin.delete_records([end]).values():
        await asyncio.to_thread(done.result, _SECONDS)


async def publish_undecodable(kafka: KafkaSettings, partition: int) -> None:
    """Write a record with a header whose name is not UTF-8."""
    await write_batch(kafka, [candidate_of("known", partition)], bad=[0])


async def publish_bad_run(kafka: KafkaSettings, run: str) -> None:
    """Write a record of a run's configuration that is none."""
    envelope = Envelope(id="1", type=type_of(RunRecord), source="/tests")
    async with EventProducer(kafka) as producer:
        await producer.send(event_record("runs", (run, "digest"), b'{"run_id": 1}', envelope))


async def publish_newer_state(kafka: KafkaSettings, service: str, partition: int) -> None:
    """Write a value that only a later release can read into a service's changelog."""
    async with make_producer(kafka) as producer:
        topic = kafka.topic(changelog_of(service))
        await producer.send_and_wait(topic, _NEWER, encode_key("known", "example"), partition)
