"""An agent's open transaction is not silence: the end of a topic is where its log ends."""

from __future__ import annotations

from aiokafka import TopicPartition

from tunestream.config.settings import KafkaSettings
from tunestream.streams.admin import apply_topics
from tunestream.streams.broker.client import make_consumer, make_transactional_producer
from tunestream.streams.broker.watermarks import Watermarks


async def test_a_record_of_an_open_transaction_counts(kafka_settings: KafkaSettings) -> None:
    await apply_topics(kafka_settings)
    place = TopicPartition(kafka_settings.topic("ttc.events"), 1)
    watermarks = Watermarks(kafka_settings)
    async with (
        make_consumer(kafka_settings) as committed,
        make_transactional_producer(kafka_settings, f"{kafka_settings.topic_prefix}agent") as producer,
    ):
        try:
            assert await watermarks.ends([place]) == {place: 0}
            async with producer.transaction():
                await producer.send_and_wait(place.topic, b"{}", partition=1)
                assert await watermarks.ends([place]) == {place: 1}
                assert await committed.end_offsets([place]) == {place: 0}
        finally:
            await watermarks.close()
