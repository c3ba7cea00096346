"""Reading a changelog partition back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from aiokafka import TopicPartition

from tunestream.config.settings import KafkaSettings
from tunestream.streams.client import make_consumer

__all__ = ["Snapshot", "changelog_end", "read_changelog"]

_POLL_MS: Final = 200
# Restoring goes at 200,000 records/s; a minute without an end means the broker is not answering.
RESTORE_DEADLINE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The live records of a changelog partition.

    Attributes:
        values: latest value by key, without tombstones.
        end: offset after the last record read.
        read: records read, superseded ones included.
    """

    values: dict[bytes, bytes]
    end: int
    read: int


async def read_changelog(settings: KafkaSettings, topic: str, partition: int) -> Snapshot:
    """Read a changelog partition to its end as of now.

    Call it only after the partition's writer was fenced: then no transaction is open and the last
    stable offset is the end.

    Raises:
        TimeoutError: when the end was not reached in time.
    """
    place = TopicPartition(topic, partition)
    values: dict[bytes, bytes] = {}
    read = 0
    async with asyncio.timeout(RESTORE_DEADLINE), make_consumer(settings) as consumer:
        consumer.assign([place])
        first = (await consumer.beginning_offsets([place]))[place]
        end = (await consumer.end_offsets([place]))[place]
        consumer.seek(place, first)
        while first < end and await consumer.position(place) < end:
            for record in (await consumer.getmany(place, timeout_ms=_POLL_MS)).get(place, ()):
                read += 1
                if record.value is None:
                    values.pop(record.key, None)
                else:
                    values[record.key] = record.value
    return Snapshot(values, end, read)


async def changelog_end(settings: KafkaSettings, topic: str, partition: int) -> int:
    """Return the end offset of a changelog partition as of now."""
    place = TopicPartition(topic, partition)
    async with asyncio.timeout(RESTORE_DEADLINE), make_consumer(settings) as consumer:
        return int((await consumer.end_offsets([place]))[place])
