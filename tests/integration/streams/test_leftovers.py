"""What a killed process left open withholds the records of others no longer than its successor needs."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from tests.helpers.counting import INPUT, OUTPUT, SERVICE
from tunestream.config.settings import KafkaSettings
from tunestream.streams.admin import apply_topics
from tunestream.streams.broker.client import make_consumer, make_transactional_producer
from tunestream.streams.broker.options import client_options
from tunestream.streams.runtime.leftovers import end_leftovers


async def test_the_open_transaction_of_a_killed_replica_is_ended(kafka_settings: KafkaSettings) -> None:
    await apply_topics(kafka_settings)
    place = TopicPartition(kafka_settings.topic(OUTPUT), 0)
    numbers = await _assigned_to(kafka_settings, "0")
    left = _task(kafka_settings, min(numbers))
    async with left, _task(kafka_settings, 99) as other:
        await _write(left, place, b"left open")
        await _write(other, place, b"committed behind it")
        await other.commit_transaction()
        assert await _readable(kafka_settings, place) == 0

        assert await end_leftovers(kafka_settings, SERVICE, "1") == set()
        assert await _readable(kafka_settings, place) == 0  # another replica's are left alone

        assert await end_leftovers(kafka_settings, SERVICE, "0") == numbers
        await _until_readable(kafka_settings, place)


async def test_without_a_broker_nothing_is_ended_and_nothing_fails() -> None:
    assert await end_leftovers(KafkaSettings(bootstrap_servers="127.0.0.1:1"), SERVICE, "0") == set()


async def _assigned_to(settings: KafkaSettings, replica: str) -> set[int]:
    """Have a replica join the group; it keeps its place when it is gone, as a static member does."""
    group = settings.topic(SERVICE)
    consumer = AIOKafkaConsumer(
        settings.topic(INPUT),
        **client_options(settings),
        group_id=group,
        client_id=f"{group}-{replica}",
        group_instance_id=f"{group}-{replica}",
        partition_assignment_strategy=[RangePartitionAssignor],
        session_timeout_ms=60_000,
    )
    async with consumer, asyncio.timeout(90):
        while not consumer.assignment():
            await consumer.getmany(timeout_ms=100)
        return {place.partition for place in consumer.assignment()}


def _task(settings: KafkaSettings, number: int) -> AIOKafkaProducer:
    return make_transactional_producer(settings, f"{settings.topic(SERVICE)}-{number}")


async def _write(producer: AIOKafkaProducer, place: TopicPartition, value: bytes) -> None:
    await producer.begin_transaction()
    await producer.send_and_wait(place.topic, value, partition=place.partition)


async def _readable(settings: KafkaSettings, place: TopicPartition) -> int:
    """Return up to which offset readers of committed records get."""
    async with make_consumer(settings) as consumer:
        ends: dict[TopicPartition, int] = await consumer.end_offsets([place])
        return ends[place]


async def _until_readable(settings: KafkaSettings, place: TopicPartition) -> None:
    async with make_consumer(settings) as consumer, asyncio.timeout(90):
        consumer.assign([place])
        record = await consumer.getone()
        assert record.value == b"committed behind it"
