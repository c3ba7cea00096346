"""How far the services' consumer groups are behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tunestream.streams.client import client_options, make_consumer
from tunestream.streams.metadata import partition_count

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = ["GroupLag", "group_lags", "group_members"]


@dataclass(frozen=True, slots=True)
class GroupLag:
    """One service's group on one of its inputs.

    Attributes:
        service: name, as in the catalogue.
        topic: catalogue name of the input.
        lag: committed records that it has not handled; Kafka's transaction markers count among them.
        members: processes at work; static members that are away count until their session ends.
    """

    service: str
    topic: str
    lag: int
    members: int


async def group_lags(settings: KafkaSettings, inputs: Mapping[str, Iterable[str]]) -> list[GroupLag]:
    """Return the lag of each service on each of its inputs.

    Args:
        settings: the broker.
        inputs: service → catalogue names of its inputs.

    Raises:
        MissingTopic: when an input does not exist.
    """
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        return [
            await _lag(settings, admin, service, name) for service, names in inputs.items() for name in names
        ]
    finally:
        await admin.close()


async def group_members(settings: KafkaSettings, service: str) -> int:
    """Return how many processes of a service are at work, or were within a session's time-out."""
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        return (await _group(admin, settings.topic(service)))[1]
    finally:
        await admin.close()


async def _lag(settings: KafkaSettings, admin: AIOKafkaAdminClient, service: str, name: str) -> GroupLag:
    topic, group = settings.topic(name), settings.topic(service)
    count = await partition_count(settings, topic)
    places = [TopicPartition(topic, partition) for partition in range(count)]
    committed, members = await _group(admin, group)
    async with make_consumer(settings) as consumer:
        firsts = await consumer.beginning_offsets(places)
        ends = await consumer.end_offsets(places)
    lag = sum(max(0, ends[place] - max(committed.get(place, 0), firsts[place])) for place in places)
    return GroupLag(service, name, lag, members)


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
