"""The client's consumer, as we use it."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import TopicPartition

from tunestream.config.settings import KafkaSettings
from tunestream.streams.admin import apply_topics
from tunestream.streams.broker.client import make_consumer

DEADLINE = 90.0


@pytest.mark.parametrize("undecodable", [False, True])
async def test_a_stop_right_behind_an_assignment_ends(
    kafka_settings: KafkaSettings, undecodable: bool
) -> None:
    """Whatever the fetcher does at that moment: each number of turns of the loop in between is one."""
    await apply_topics(kafka_settings)
    place = TopicPartition(kafka_settings.topic("dlq.marks"), 0)
    async with asyncio.timeout(DEADLINE):
        for turns in range(6):
            consumer = make_consumer(kafka_settings, undecodable=undecodable)
            await consumer.start()
            consumer.assign([place])
            await consumer.seek_to_beginning(place)
            await consumer.getmany(timeout_ms=20)  # a fetch is under way now, and waits for records
            consumer.assign([place])
            for _ in range(turns):
                await asyncio.sleep(0)
            await consumer.stop()
