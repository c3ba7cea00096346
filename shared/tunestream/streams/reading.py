"""Reading a topic outside any group: to its end as of now, or on and on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from pydantic import BaseModel

from tunestream.domain.effects import Refused
from tunestream.events.cloudevents import Envelope
from tunestream.events.keys import encode_key
from tunestream.events.registry import model_of
from tunestream.streams.broker.client import make_consumer
from tunestream.streams.broker.metadata import partition_count
from tunestream.streams.broker.unavailable import reaching
from tunestream.streams.broker.watermarks import Watermarks
from tunestream.streams.fetch.undecodable import Undecodable
from tunestream.streams.tasks.encoding import partition_for
from tunestream.topics import topic

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = ["RecordReader", "StoredEvent", "latest_bodies", "stored_events"]

log = logging.getLogger(__name__)
_POLL_MS: Final = 500
_SILENCE: Final = 30.0
# How long what is written and not committed is waited for: a commit is confirmed some milliseconds before it
# can be read, and the transaction of an agent that hangs stays open for minutes. Seconds.
_COMMITTING: Final = 1.0
_LOOK: Final = 0.01
_LONGEST_REASON: Final = 500


class RecordReader:
    """The committed records of one topic, in order within a partition.

    Where it begins is decided when it is entered; entering raises ``BrokerUnavailable`` within 20 s when
    there is no broker.

    Args:
        settings: the broker.
        name: catalogue name of the topic.
        from_beginning: begin at the oldest record kept, else at what is written from now on.
        run_id: read only the partition in which this run's records lie; the topic must be partitioned by
            run.
        key: read only the partition in which our clients put this key.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        name: str,
        *,
        from_beginning: bool,
        run_id: str | None = None,
        key: bytes | None = None,
    ) -> None:
        self._catalogued = topic(name)
        self._name = settings.topic(name)
        self._from_beginning = from_beginning
        self._key = encode_key(run_id) if key is None and run_id and self._catalogued.by_run else key
        self._settings = settings
        self._partitions: list[TopicPartition] = []
        self._written = Watermarks(settings)
        # Over a connection of its own: what the consumer is asked waits behind its fetch, up to 0.5 s.
        self._committed = Watermarks(settings, committed=True)
        self._consumer: AIOKafkaConsumer

    async def __aenter__(self) -> Self:
        self._consumer = make_consumer(self._settings, undecodable=True)
        try:
            async with reaching(self._settings):
                self._partitions = await self._find_partitions()
                await self._consumer.start()
            self._consumer.assign(self._partitions)
            ends = await self._consumer.end_offsets(self._partitions)
            for partition, end in ends.items():
                if not self._from_beginning:
                    self._consumer.seek(partition, end)
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._written.close()
        await self._committed.close()
        await self._consumer.stop()

    async def _find_partitions(self) -> list[TopicPartition]:
        count = await partition_count(self._settings, self._name)
        if self._key is not None:
            return [TopicPartition(self._name, partition_for(self._key, count))]
        return [TopicPartition(self._name, partition) for partition in range(count)]

    async def to_end(self) -> AsyncIterator[ConsumerRecord]:
        """Yield the records up to the end of the topic as it is now, with those that are being committed.

        Raises:
            TimeoutError: when the broker gives nothing for half a minute before the end.
        """
        ends = await self._ends()
        heard = monotonic()
        while not await self._reached(ends):
            records = await self._poll()
            if records:
                heard = monotonic()
            elif monotonic() - heard > _SILENCE:
                raise TimeoutError(f"topic {self._name}: nothing came for {_SILENCE:.0f} s before its end")
            for record in records:
                if record.offset < ends[TopicPartition(record.topic, record.partition)]:
                    yield record

    async def forever(self) -> AsyncIterator[ConsumerRecord]:
        """Yield records as they are committed."""
        while True:
            for record in await self._poll():
                yield record

    async def _ends(self) -> dict[TopicPartition, int]:
        written = await self._written.ends(self._partitions)
        began = monotonic()
        while True:
            ends = await self._committed.ends(self._partitions)
            if monotonic() - began > _COMMITTING or all(ends[at] >= end for at, end in written.items()):
                return ends
            await asyncio.sleep(_LOOK)

    async def _poll(self) -> list[ConsumerRecord]:
        fetched = await self._consumer.getmany(timeout_ms=_POLL_MS)
        return [record for records in fetched.values() for record in records]

    async def _reached(self, ends: dict[TopicPartition, int]) -> bool:
        positions = await asyncio.gather(*(self._consumer.position(partition) for partition in ends))
        return all(position >= end for position, end in zip(positions, ends.values(), strict=True))


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A decoded record of one of our own topics; ``body`` is None for a tombstone."""

    record: ConsumerRecord
    envelope: Envelope | None
    body: BaseModel | None


async def stored_events(records: AsyncIterator[ConsumerRecord]) -> AsyncIterator[StoredEvent]:
    """Decode the records of a topic that the services write.

    Types and fields that a newer service may have added are left out; a type is logged once. A record that
    cannot be read, which no service wrote, is passed over and logged: it takes nothing from the others.
    """
    skipped: set[str] = set()
    async for record in records:
        if record.value is None:
            yield StoredEvent(record, None, None)
            continue
        try:
            envelope, body = _decoded(record)
        except (Refused, ValueError) as error:
            log.warning(
                "topic %s, partition %d: the record at offset %d is passed over, since it cannot be read: %s",
                record.topic,
                record.partition,
                record.offset,
                str(error)[:_LONGEST_REASON],
            )
            continue
        if body is not None:
            yield StoredEvent(record, envelope, body)
        elif envelope.type not in skipped:
            skipped.add(envelope.type)
            log.warning(
                "topic %s: records of type %s are skipped, since this release does not read them",
                record.topic,
                envelope.type,
            )


def _decoded(record: ConsumerRecord) -> tuple[Envelope, BaseModel | None]:
    """Return a record's envelope and body, None for a type that this release does not have.

    Raises:
        Refused: when the client cannot decode it.
        ValueError: when its headers are not a CloudEvent's, or the body does not fit its type.
    """
    if isinstance(record, Undecodable):
        raise record.refusal
    envelope = Envelope.from_headers(record.headers)
    model = model_of(envelope.type)
    return envelope, None if model is None else model.model_validate_json(record.value, extra="ignore")


async def latest_bodies(settings: KafkaSettings, name: str, run_id: str | None = None) -> list[BaseModel]:
    """Return the latest body of each key of a compacted topic, in the order of their first records.

    Args:
        settings: the broker.
        name: catalogue name of the topic.
        run_id: only this run's.
    """
    latest: dict[bytes, BaseModel | None] = {}
    async with RecordReader(settings, name, from_beginning=True, run_id=run_id) as reader:
        async for stored in stored_events(reader.to_end()):
            latest[stored.record.key] = stored.body
    bodies = (body for body in latest.values() if body is not None)
    return [body for body in bodies if run_id in (None, getattr(body, "run_id", None))]
