"""The operator's reset: where a stopped service goes on, in its group's offset and in its state at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tunestream.config.settings import KafkaSettings
from tunestream.streams.atomic import transaction, transactional_producer
from tunestream.streams.broker.client import make_consumer
from tunestream.streams.broker.groups import group_members
from tunestream.streams.broker.metadata import partition_count
from tunestream.streams.changelog.restoring import read_changelog
from tunestream.streams.changelog.values import (
    POSITIONS_KEY,
    VERSIONED,
    Reached,
    decode_positions,
    encode_positions,
    unwrap,
    wrap,
)
from tunestream.streams.runs import RunDirectory
from tunestream.topics import INPUTS, changelog_of

__all__ = ["SeekRefused", "Sought", "Target", "find_place", "position_of", "seek"]

Target = int | Literal["earliest", "latest"]


class SeekRefused(Exception):
    """The position was left as it is.

    Attributes:
        remedy: what to do about it.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Sought:
    """A position that was set.

    Attributes:
        service: whose position it is.
        topic: catalogue name of the input.
        partition: its number.
        before: the offset that the service would have begun at, None when it had none.
        offset: the offset that it begins at now.
    """

    service: str
    topic: str
    partition: int
    before: int | None
    offset: int


async def seek(settings: KafkaSettings, service: str, topic: str, partition: int, target: Target) -> Sought:
    """Set where a stopped service goes on to read an input.

    The group's offset and the state's position are written in one transaction, under the transactional id of
    the partition's task: one that is at work after all is fenced, and opens at the new position.

    Args:
        settings: the broker.
        service: name, as in the catalogue.
        topic: catalogue name of one of its inputs.
        partition: its number.
        target: an offset that the topic has, its end included; or one of its ends.

    Raises:
        SeekRefused: when the service is at work, or there is no such place.
        KafkaError: when the broker refuses; TimeoutError: when it does not answer.
    """
    place = await find_place(settings, service, topic, partition)
    if members := await group_members(settings, service):
        raise SeekRefused(
            f"{service} is at work (members of its group: {members})",
            "stop all its replicas, wait ten seconds for their sessions to end, and try again",
        )
    async with RunDirectory(settings) as runs:
        number = runs.format
    async with transactional_producer(settings, f"{service}-{partition}") as producer:
        return await _seek(settings, producer, (service, topic, place, number), target)


async def position_of(settings: KafkaSettings, service: str, topic: str, place: TopicPartition) -> int | None:
    """Return where a service begins to read an input, None when it has no position."""
    state = await _positions(settings, changelog_of(service), place.partition)
    async with make_consumer(settings, group_id=settings.topic(service)) as consumer:
        committed = await consumer.committed(place)
    return _larger(committed, state.get(topic))


def _larger(committed: int | None, reached: Reached | None) -> int | None:
    known = [one for one in (committed, None if reached is None else reached.offset) if one is not None]
    return max(known, default=None)


async def find_place(settings: KafkaSettings, service: str, topic: str, partition: int) -> TopicPartition:
    """Return a partition of a service's input, as the broker calls it.

    Raises:
        SeekRefused: when there is no such service, input or partition.
    """
    inputs = INPUTS.get(service)
    if inputs is None:
        raise SeekRefused(f"there is no service {service!r}", f"name one of {', '.join(INPUTS)}")
    if topic not in inputs:
        raise SeekRefused(f"{service} does not read {topic!r}", f"name one of {', '.join(inputs)}")
    count = await partition_count(settings, settings.topic(topic))
    if not 0 <= partition < count:
        raise SeekRefused(f"{topic} has no partition {partition}", f"name one of 0 to {count - 1}")
    return TopicPartition(settings.topic(topic), partition)


async def _seek(
    settings: KafkaSettings,
    producer: AIOKafkaProducer,
    where: tuple[str, str, TopicPartition, int],
    to: Target,
) -> Sought:
    service, topic, place, number = where
    group, changelog = settings.topic(service), changelog_of(service)
    state = await _positions(settings, changelog, place.partition)
    async with make_consumer(settings, group_id=group) as consumer:
        offset = await _offset(consumer, place, to)
        committed = await consumer.committed(place)
    async with transaction(producer):
        if number >= VERSIONED:
            value = wrap(encode_positions(state | {topic: Reached(offset)}), number)
            await producer.send_and_wait(
                settings.topic(changelog), value, POSITIONS_KEY, partition=place.partition
            )
        await producer.send_offsets_to_transaction({place: offset}, group)
    return Sought(service, topic, place.partition, _larger(committed, state.get(topic)), offset)


async def _positions(settings: KafkaSettings, changelog: str, partition: int) -> dict[str, Reached]:
    value = (await read_changelog(settings, changelog, partition)).values.get(POSITIONS_KEY)
    return {} if value is None else decode_positions(unwrap(value))


async def _offset(consumer: AIOKafkaConsumer, place: TopicPartition, to: Target) -> int:
    first = int((await consumer.beginning_offsets([place]))[place])
    end = int((await consumer.end_offsets([place]))[place])
    offset = {"earliest": first, "latest": end}[to] if isinstance(to, str) else to
    if not first <= offset <= end:
        raise SeekRefused(
            f"partition {place.partition} of {place.topic} has no offset {offset}",
            f"name one of {first} to {end}, earliest or latest",
        )
    return offset
