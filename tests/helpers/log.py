"""Reading topics as an auditor does: committed records only, with all that was written before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiokafka import ConsumerRecord, TopicPartition
from pydantic import BaseModel

from tunestream.config.settings import KafkaSettings
from tunestream.events.keys import decode_key
from tunestream.streams.broker.client import make_consumer
from tunestream.streams.broker.metadata import partition_count
from tunestream.streams.broker.watermarks import Watermarks
from tunestream.streams.reading import latest_bodies

DEADLINE = 180.0
BATCH = "tunestream.training_batch.v1"
WINDOW = "tunestream.window.v1"


async def read_all(
    settings: KafkaSettings,
    name: str,
    *,
    run: str | None = None,
    ce_type: str | None = None,
    undecodable: bool = False,
) -> list[ConsumerRecord]:
    """Return every committed record of a topic, or those of a run or a type, partition by partition.

    The broker confirms a commit, and shows it in one partition, a moment before it is to be read in all of
    them: what was written until now is waited for, until its transaction has ended.
    """
    return await read_until(
        settings,
        name,
        lambda _records: False,
        wait=False,
        run=run,
        ce_type=ce_type,
        undecodable=undecodable,
    )


async def bodies_of(settings: KafkaSettings, name: str) -> list[BaseModel]:
    """Return the latest body of each key of a compacted topic, with all that was written before."""
    await read_all(settings, name)
    return await latest_bodies(settings, name)


async def read_until(
    settings: KafkaSettings,
    name: str,
    enough: Callable[[list[ConsumerRecord]], bool],
    *,
    wait: bool = True,
    deadline: float = DEADLINE,
    run: str | None = None,
    ce_type: str | None = None,
    undecodable: bool = False,
) -> list[ConsumerRecord]:
    """Read a topic from its beginning until it is `enough`, or to its end without `wait`.

    With `run` only the records whose key begins with it count, with `ce_type` only those of it; with
    `undecodable` also those that the client cannot decode, else they raise.
    """
    records: list[ConsumerRecord] = []
    async with asyncio.timeout(deadline), make_consumer(settings, undecodable=undecodable) as consumer:
        count = await partition_count(settings, settings.topic(name))
        places = [TopicPartition(settings.topic(name), number) for number in range(count)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = {} if wait else await _ends(settings, places)
        while not enough(records):
            if not wait and all([await consumer.position(place) >= ends[place] for place in places]):
                break
            for fetched in (await consumer.getmany(timeout_ms=100)).values():
                records.extend(one for one in fetched if _counts(one, run, ce_type))
    return sorted(records, key=lambda record: (record.partition, record.offset))


def _counts(record: ConsumerRecord, run: str | None, ce_type: str | None) -> bool:
    return (run is None or decode_key(record.key)[0] == run) and (
        ce_type is None or header(record, "ce_type") == ce_type
    )


async def _ends(settings: KafkaSettings, places: list[TopicPartition]) -> dict[TopicPartition, int]:
    """Return where partitions end, records of open transactions included."""
    watermarks = Watermarks(settings)
    try:
        return await watermarks.ends(places)
    finally:
        await watermarks.close()


def header(record: ConsumerRecord, name: str) -> str | None:
    """Return a header's text."""
    return next((value.decode() for key, value in record.headers if key == name), None)
