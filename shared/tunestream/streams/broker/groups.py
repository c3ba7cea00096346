"""How far the services' consumer groups are behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tunestream.streams.broker.administration import administration
from tunestream.streams.broker.client import make_consumer
from tunestream.streams.broker.metadata import partition_count

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = ["GroupLag", "group_lags", "group_members"]

_LOOK_SECONDS: Final = 10.0
_POLL_MS: Final = 500


@dataclass(frozen=True, slots=True)
class GroupLag:
    """One service's group on one of its inputs.

    Attributes:
        service: name, as in the catalogue.
        topic: catalogue name of the input.
        lag: committed records that it has not handled. Kafka's transaction markers count among them, but
            in a partition that holds nothing else.
        members: processes at work; static members that are away count until their session ends.
        handled: offsets that it has passed, of all partitions; grows while it works.
    """

    service: str
    topic: str
    lag: int
    members: int
    handled: int = 0


async def group_lags(settings: KafkaSettings, inputs: Mapping[str, Iterable[str]]) -> list[GroupLag]:
    """Return the lag of each service on each of its inputs.

    Args:
        settings: the broker.
        inputs: service → catalogue names of its inputs.

    Raises:
        MissingTopic: when an input does not exist.
        BrokerUnavailable: when no broker answers.
    """
    async with administration(settings) as admin:
        places = [(service, name) for service, names in inputs.items() for name in names]
        return await asyncio.gather(*(_lag(settings, admin, service, name) for service, name in places))


async def group_members(settings: KafkaSettings, service: str) -> int:
    """Return how many processes of a service are at work, or were within a session's time-out."""
    async with administration(settings) as admin:
        return (await _group(admin, settings.topic(service)))[1]


async def _lag(settings: KafkaSettings, admin: AIOKafkaAdminClient, service: str, name: str) -> GroupLag:
    topic, group = settings.topic(name), settings.topic(service)
    count = await partition_count(settings, topic)
    places = [TopicPartition(topic, partition) for partition in range(count)]
    committed, members = await _group(admin, group)
    async with make_consumer(settings) as consumer:
        firsts = await consumer.beginning_offsets(places)
        ends = await consumer.end_offsets(places)
        reached = {place: max(committed.get(place, 0), firsts[place]) for place in places}
        behind = {place: ends[place] for place in places if reached[place] < ends[place]}
        waiting = await _with_records(consumer, reached, behind)
    lag = sum(ends[place] - reached[place] for place in waiting)
    return GroupLag(service, name, lag, members, sum(committed.values()))


async def _with_records(
    consumer: AIOKafkaConsumer, reached: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> set[TopicPartition]:
    """Return the partitions in which a record lies before the end, or something that cannot be read."""
    found: set[TopicPartition] = set()
    consumer.assign(list(ends))
    for place in ends:
        consumer.seek(place, reached[place])
    left = set(ends)
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            while left:
                found |= (await consumer.getmany(*left, timeout_ms=_POLL_MS)).keys()
                passed = {place for place in left if await consumer.position(place) >= ends[place]}
                left -= found | passed
    except (TimeoutError, KafkaError):
        return found | left
    return found


async def _group(admin: AIOKafkaAdminClient, group: str) -> tuple[dict[TopicPartition, int], int]:
    try:
        offsets = await admin.list_consumer_group_offsets(group)
        (described,) = await admin.describe_consumer_groups([group])
    except KafkaError as error:
        if not error.retriable:
            raise
        return {}, 0  # a broker on which no group was ever formed has no coordinator yet
    members = described.to_object()["groups"][0]["members"]
    return {place: found.offset for place, found in offsets.items()}, len(members)
