"""How many records were refused lately, by reason."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from tunestream.streams.client import make_consumer
from tunestream.streams.dead_letters import DLQ_REASON
from tunestream.streams.metadata import partition_count
from tunestream.streams.unavailable import reaching
from tunestream.topics import CATALOGUE

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = ["RecentLetters", "recent_letters"]

_MOST: Final = 100_000
_READ_SECONDS: Final = 30.0
_POLL_MS: Final = 500


@dataclass(frozen=True, slots=True)
class RecentLetters:
    """Records that were refused for one reason.

    Attributes:
        source: catalogue name of the topic that they were in.
        reason: the reason's code.
        count: how many.
    """

    source: str
    reason: str
    count: int


async def recent_letters(settings: KafkaSettings, since: int) -> list[RecentLetters]:
    """Return what was refused since a moment, at most the first 100,000 records of it.

    Args:
        settings: the broker.
        since: milliseconds since the epoch, by the broker's time.

    Raises:
        MissingTopic: when a dead-letter topic does not exist.
        TimeoutError: when they cannot be read within half a minute.
        BrokerUnavailable: when no broker answers.
    """
    sources = {settings.topic(entry.name): entry.source for entry in CATALOGUE if entry.source is not None}
    consumer = make_consumer(settings)
    found: Counter[tuple[str, str]] = Counter()
    try:
        async with reaching(settings):
            places = [
                TopicPartition(name, number)
                for name in sources
                for number in range(await partition_count(settings, name))
            ]
            await consumer.start()
        consumer.assign(places)
        async with asyncio.timeout(_READ_SECONDS):
            left = await _begin(consumer, places, since)
            while left and found.total() < _MOST:
                for at, records in (await consumer.getmany(*left, timeout_ms=_POLL_MS)).items():
                    found.update((sources[at.topic], _reason(record)) for record in records)
                left = {at: end for at, end in left.items() if await consumer.position(at) < end}
    finally:
        await consumer.stop()
    return [RecentLetters(source, reason, count) for (source, reason), count in sorted(found.items())]


async def _begin(
    consumer: AIOKafkaConsumer, places: list[TopicPartition], since: int
) -> dict[TopicPartition, int]:
    """Go to the first records since a moment; return where each partition that has some ends now."""
    ends = await consumer.end_offsets(places)
    firsts = await consumer.offsets_for_times(dict.fromkeys(places, since))
    left = {at: ends[at] for at, first in firsts.items() if first is not None and first.offset < ends[at]}
    for at in places:
        consumer.seek(at, firsts[at].offset if at in left else ends[at])
    return left


def _reason(record: ConsumerRecord) -> str:
    headers = dict(record.headers)
    return (headers.get(DLQ_REASON) or b"unknown").decode(errors="replace")
