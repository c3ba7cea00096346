"""Passing what cannot even be fetched: the operator's last resort, with a count of what it costs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from tunestream.config.settings import KafkaSettings
from tunestream.domain.effects import Refused
from tunestream.streams.broker.client import make_consumer, make_producer
from tunestream.streams.broker.deadlines import words
from tunestream.streams.letters.dead_letters import dead_letter
from tunestream.streams.offsets.seeking import SeekRefused, find_place, position_of, seek
from tunestream.topics import INPUTS, dlq_of

__all__ = ["Skipped", "skip"]

_POLL_MS: Final = 500
_EMPTY_POLLS: Final = 6
_FARTHEST: Final = 100_000
_NO_TIME: Final = -1


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was passed.

    Attributes:
        service: that goes on behind it.
        topic: catalogue name.
        partition: its number.
        first: the first offset that was passed.
        next: the offset at which the service goes on.
        offsets: how many were passed.
        reason: why they could not be read, None when they could.
    """

    service: str
    topic: str
    partition: int
    first: int
    next: int
    offsets: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class _Found:
    """What lies at an offset: up to where, and why it cannot be read."""

    next: int
    fault: str | None


async def skip(
    settings: KafkaSettings, topic: str, partition: int, offset: int, *, dry_run: bool = False
) -> Skipped:
    """Have a stopped service go on behind what lies at an offset of one of its inputs.

    A dead letter keeps the place. What can be read in front of the offset is not passed.

    Args:
        settings: the broker.
        topic: catalogue name of an input.
        partition: its number.
        offset: where the service stands.
        dry_run: find out what would be passed, and pass nothing.

    Raises:
        SeekRefused: when the service is at work, does not stand there, or nothing lies there.
        KafkaError: when the broker refuses; TimeoutError: when it does not answer.
    """
    service = next((name for name, inputs in INPUTS.items() if topic in inputs), None)
    if service is None:
        known = sorted({name for inputs in INPUTS.values() for name in inputs})
        raise SeekRefused(f"no service reads {topic!r}", f"name one of {', '.join(known)}")
    place = await find_place(settings, service, topic, partition)
    before = await position_of(settings, service, topic, place)
    first = await _first(settings, place, before, offset)
    found = await _what_lies_at(settings, place, offset)
    skipped = Skipped(service, topic, partition, first, found.next, found.next - first, found.fault)
    if not dry_run:
        await seek(settings, service, topic, partition, found.next)
        await _write_letter(settings, place, skipped)
    return skipped


async def _first(settings: KafkaSettings, place: TopicPartition, before: int | None, offset: int) -> int:
    """Return where the service stands, once it is sure that nothing lies between there and the offset."""
    if before is None or before > offset:
        where = "has no position" if before is None else f"stands at {before}, behind it"
        raise SeekRefused(
            f"the service {where}",
            "name the offset that /health/ready names, or use `tunestream streams seek`",
        )
    if before < offset:
        between = await _what_lies_at(settings, place, before)
        if between.next <= offset and between.fault is None:
            raise SeekRefused(
                f"the service stands at {before}, and offset {between.next - 1} can be read",
                "name the offset that /health/ready names, or use `tunestream streams seek`",
            )
    return before


async def _what_lies_at(settings: KafkaSettings, place: TopicPartition, offset: int) -> _Found:
    async with make_consumer(settings, undecodable=True) as consumer:
        consumer.assign([place])
        end = int((await consumer.end_offsets([place]))[place])
        if offset >= end:
            raise SeekRefused(
                f"partition {place.partition} of {place.topic} ends at {end}", "there is nothing to pass"
            )
        fault: str | None = None
        for candidate in range(offset, min(end, offset + _FARTHEST)):
            try:
                record = await _record_at(consumer, place, candidate)
            except Exception as error:  # noqa: BLE001 # what makes the client raise is what has to be passed
                fault = fault or words(error)
                continue
            if candidate > offset:
                return _Found(end if record is None else record.offset, fault)
            if record is None:
                return _Found(end, None)
            refusal = getattr(record, "refusal", None)
            return _Found(record.offset + 1, None if refusal is None else refusal.message)
        return _Found(min(end, offset + _FARTHEST), fault)


async def _record_at(consumer: AIOKafkaConsumer, place: TopicPartition, offset: int) -> ConsumerRecord | None:
    """Return the record at an offset or next behind it, None when there is none."""
    consumer.seek(place, offset)
    for _ in range(_EMPTY_POLLS):
        for record in (await consumer.getmany(place, timeout_ms=_POLL_MS, max_records=1)).get(place, ()):
            return record
        await asyncio.sleep(0)
    return None


async def _write_letter(settings: KafkaSettings, place: TopicPartition, skipped: Skipped) -> None:
    message = (
        f"an operator passed the offsets {skipped.first} to {skipped.next - 1} with `tunestream dlq skip`: "
        f"{skipped.reason or 'they can be read'}"
    )
    nothing = ConsumerRecord(
        place.topic, place.partition, skipped.first, _NO_TIME, 0, None, None, None, -1, -1, ()
    )
    letter = dead_letter(nothing, Refused("undecodable.skipped", message), skipped.service)
    async with make_producer(settings) as producer:
        batch = producer.create_batch()
        batch.append(timestamp=None, key=None, value=None, headers=letter.headers)
        await (await producer.send_batch(batch, dlq_of(place.topic), partition=place.partition))
