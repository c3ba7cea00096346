"""Agents in other languages compress: what any codec of Kafka carries is read."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from confluent_kafka import Producer

from tests.helpers.counting import INPUT, OUTPUT, Board, example_end, numbers, plan, running
from tests.helpers.log import read_all, read_until
from tunestream.config.settings import KafkaSettings
from tunestream.streams.admin import apply_topics
from tunestream.streams.broker.administration import administration

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
COUNT = 200


@pytest_asyncio.fixture(loop_scope="session")
async def kafka(kafka_settings: KafkaSettings) -> KafkaSettings:
    await apply_topics(kafka_settings)
    return kafka_settings


def _librdkafka_sends(kafka: KafkaSettings, codec: str) -> None:
    """Send records of a run that has the codec's name, in batches that are worth compressing."""
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap_servers, "compression.type": codec, "linger.ms": 200}
    )
    failed: list[str] = []
    for number in range(COUNT):
        record = example_end(codec, number % 4)
        producer.produce(
            kafka.topic(INPUT),
            record.value,
            record.key,
            number % 4,
            headers=list(record.headers),
            on_delivery=lambda error, _message: failed.append(str(error)) if error else None,
        )
    assert producer.flush(90) == 0
    assert not failed


async def _have_the_topic_compress(kafka: KafkaSettings, codec: str) -> None:
    async with administration(kafka) as admin:
        resource = ConfigResource(ConfigResourceType.TOPIC, kafka.topic(INPUT), {"compression.type": codec})
        answer = await admin.alter_configs([resource])
        assert all(not code for response in answer for code, *_ in response.resources)


async def test_every_codec_of_a_foreign_client_is_read(kafka: KafkaSettings) -> None:
    async with running(plan(kafka, Board())):
        for codec in CODECS:
            await asyncio.to_thread(_librdkafka_sends, kafka, codec)
        found = await read_until(
            kafka, OUTPUT, lambda seen: all(len(numbers(seen, codec)) >= COUNT for codec in CODECS)
        )
    # Each partition counts a run by itself.
    assert {codec: len(numbers(found, codec)) for codec in CODECS} == dict.fromkeys(CODECS, COUNT)
    assert await read_all(kafka, f"{INPUT}.dlq") == []


@pytest.mark.parametrize("codec", CODECS[1:])
async def test_the_codec_of_the_topic_is_read(kafka: KafkaSettings, codec: str) -> None:
    await _have_the_topic_compress(kafka, codec)
    await asyncio.to_thread(_librdkafka_sends, kafka, "none")
    async with running(plan(kafka, Board())):
        await read_until(kafka, OUTPUT, lambda seen: len(numbers(seen, "none")) == COUNT)
