"""Which dead letters were sent again.

A mark lies in ``dlq.marks``, in the partition of its letter's number, and is written in the transaction
that sends the letter again. It is kept longer than its letter; :func:`~.purging.purge` removes it with
the letter. It names the letter by place and time: the letters of a topic that was created again have
the places of earlier ones, and no marks.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from aiokafka import ConsumerRecord, TopicPartition

from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import Envelope
from tunestream.events.dead_letters import DeadLetterMark
from tunestream.events.ids import stable_id
from tunestream.events.keys import encode_key
from tunestream.events.registry import type_of
from tunestream.streams.broker.client import make_consumer
from tunestream.streams.letters.letter import DeadLetter
from tunestream.streams.letters.spans import Span, SpanReader
from tunestream.streams.publish import EncodedRecord

__all__ = ["Marks", "mark_record", "read_all_marks", "read_marks", "tombstone"]

log = logging.getLogger(__name__)
_TOPIC: Final = "dlq.marks"
_SOURCE: Final = "/tunestream/dlq"
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


class Marks:
    """The marks that were read, each the latest of its letter's place."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, DeadLetterMark] = {}

    def take(self, record: ConsumerRecord) -> None:
        """Take the next record of a partition."""
        if record.value is None:
            self._by_key.pop(record.key, None)
        else:
            try:
                self._by_key[record.key] = DeadLetterMark.model_validate_json(record.value, extra="ignore")
            except ValueError as error:  # no replay wrote it; the mark before it counts
                log.warning("topic %s: the record of key %r is passed over: %s", _TOPIC, record.key, error)

    def replayed(self, letter: DeadLetter) -> datetime | None:
        """Return when a letter was sent again, None when it was not."""
        mark = self._by_key.get(_key(letter.source, letter.partition, letter.offset))
        return mark.replayed if mark is not None and mark.refused == _moment(letter.time) else None

    def before(self, source: str, partition: int, offset: int) -> Iterator[DeadLetterMark]:
        """Yield the marks of the letters of a partition whose offset is lower."""
        for mark in self._by_key.values():
            if (mark.topic, mark.partition) == (source, partition) and mark.offset < offset:
                yield mark


async def read_marks(settings: KafkaSettings) -> Marks:
    """Return the marks of all partitions that are committed now."""
    marks = Marks()
    async with SpanReader(settings, [settings.topic(_TOPIC)]) as reader:
        for span in await reader.spans():
            async for record in reader.read(span):
                marks.take(record)
    return marks


async def read_all_marks(settings: KafkaSettings, partition: int) -> Marks:
    """Return the marks of one partition number, none of them missing.

    A transaction of another replay that is open hides committed marks behind its own: this waits for its
    end, so that no letter seems to be without its mark.

    Raises:
        TimeoutError: when it has not ended within a minute.
    """
    place = TopicPartition(settings.topic(_TOPIC), partition)
    marks = Marks()
    async with SpanReader(settings, [place.topic]) as reader:
        async for record in reader.read(Span(place, 0, await _written(settings, place))):
            marks.take(record)
    return marks


async def _written(settings: KafkaSettings, place: TopicPartition) -> int:
    """Return the end of a partition, open transactions included."""
    consumer = make_consumer(settings, isolation_level="read_uncommitted")
    try:
        await consumer.start()
        consumer.assign([place])
        ends: dict[TopicPartition, int] = await consumer.end_offsets([place])
        return ends[place]
    finally:
        await consumer.stop()


def mark_record(letter: DeadLetter, now: datetime) -> EncodedRecord:
    """Return the record that marks a letter as sent again."""
    body = DeadLetterMark(
        topic=letter.source,
        partition=letter.partition,
        offset=letter.offset,
        refused=_moment(letter.time),
        replayed=now,
    )
    key = _key(letter.source, letter.partition, letter.offset)
    envelope = Envelope(
        id=stable_id("dlq-mark", letter.name, str(letter.time)),
        type=type_of(body),
        source=_SOURCE,
        time=(now - _EPOCH) // timedelta(milliseconds=1),
    )
    return EncodedRecord(_TOPIC, key, body.to_json(), envelope.to_headers(), letter.partition)


def tombstone(mark: DeadLetterMark) -> EncodedRecord:
    """Return the record that removes a mark."""
    return EncodedRecord(_TOPIC, _key(mark.topic, mark.partition, mark.offset), None, [], mark.partition)


def _key(source: str, partition: int, offset: int) -> bytes:
    return encode_key(source, str(partition), str(offset))


def _moment(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)
