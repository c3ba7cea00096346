"""Topics on a broker: listed, compared with the catalogue, created and altered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from tunestream.config.settings import KafkaSettings
from tunestream.events.runs import FORMAT
from tunestream.streams.broker.administration import administration
from tunestream.streams.broker.topic_plan import (
    TopicAction,
    TopicChange,
    TopicState,
    differing,
    plan_topics,
    wanted_topics,
)
from tunestream.streams.broker.unavailable import reaching
from tunestream.streams.runs import write_format
from tunestream.topics import CATALOGUE

__all__ = [
    "TopicsError",
    "TopicsRefusedError",
    "apply_topics",
    "delete_before",
    "diff_topics",
    "list_topics",
]

# Kafka's code for a setting on the topic itself, as opposed to a broker's default.
_SET_ON_TOPIC: Final = 1
_DEADLINE_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.05


class TopicsError(RuntimeError):
    """Kafka refused a change to a topic."""


class TopicsRefusedError(TopicsError):
    """The catalogue cannot be applied; nothing was changed.

    Attributes:
        refused: the topics that stand in the way.
        problem: what stands in the way.
        remedy: what to do about it; also the end of the message.
    """

    def __init__(self, refused: Iterable[TopicChange]) -> None:
        self.refused = tuple(refused)
        lines = "\n".join(f"  {change.name} {change.reason}" for change in self.refused)
        self.problem = f"Nothing was changed, because these topics cannot be:\n{lines}"
        self.remedy = " ".join(dict.fromkeys(change.remedy or "" for change in self.refused))
        super().__init__(f"{self.problem}\n{self.remedy}")


async def list_topics(settings: KafkaSettings) -> tuple[TopicState, ...]:
    """Return those of the catalogue's topics that the broker has, in the catalogue's order.

    Raises:
        BrokerUnavailable: when no broker answers, or it is not done within 30 s.
    """
    async with _admin(settings) as admin:
        return await _read(admin, _names(settings))


async def diff_topics(settings: KafkaSettings) -> tuple[TopicChange, ...]:
    """Return what :func:`apply_topics` would do, one entry per topic of the catalogue.

    Raises:
        BrokerUnavailable: when no broker answers, or it is not done within 30 s.
    """
    present = await list_topics(settings)
    return plan_topics(wanted_topics(settings, present), present)


async def apply_topics(settings: KafkaSettings, *, dry_run: bool = False) -> tuple[TopicChange, ...]:
    """Make the broker's topics match the catalogue, and return what was done.

    Applying twice changes nothing the second time, nor do several processes that apply at once.
    Returns when every partition has a leader and the settings hold.

    Args:
        settings: the broker, the prefix, and the partitions and replicas of new topics. When the partitions
            are not set, topics keep theirs, and new ones get as many as those that they belong to.
        dry_run: only check, and return what would be done.

    Raises:
        TopicsRefusedError: when a partition count or replication factor would change.
        TopicsError: when Kafka refuses a change, e.g. more replicas than brokers.
        BrokerUnavailable: when no broker answers, or it is not done within 30 s.
    """
    async with _admin(settings) as admin:
        present = await _read(admin, _names(settings))
        wanted = wanted_topics(settings, present)
        plan = plan_topics(wanted, present)
        if refused := [change for change in plan if change.action is TopicAction.REFUSE]:
            raise TopicsRefusedError(refused)
        if not dry_run:
            await _create(admin, _chosen(wanted, plan, TopicAction.CREATE))
            await _alter(admin, _chosen(wanted, plan, TopicAction.ALTER), present)
            await _await_applied(admin, wanted)
    if not dry_run and _is_new_deployment(settings, plan):
        # Nothing older is there to be rolled back to.
        await write_format(settings, FORMAT, source="/tunestream/topics")
    return plan


async def delete_before(settings: KafkaSettings, offsets: Mapping[TopicPartition, int]) -> None:
    """Delete the records of partitions that lie before an offset; for ever.

    Args:
        settings: the broker.
        offsets: the first offset that stays, by partition; topics with the prefix.

    Raises:
        KafkaError: when Kafka refuses it.
        BrokerUnavailable: when no broker answers.
    """
    wanted = {place: RecordsToDelete(before_offset=offset) for place, offset in offsets.items()}
    async with _admin(settings) as admin:
        await admin.delete_records(wanted)


def _is_new_deployment(settings: KafkaSettings, plan: Iterable[TopicChange]) -> bool:
    runs = settings.topic("runs")
    return any(change.name == runs and change.action is TopicAction.CREATE for change in plan)


def _names(settings: KafkaSettings) -> list[str]:
    return [settings.topic(entry.name) for entry in CATALOGUE]


def _chosen(
    wanted: Iterable[TopicState], plan: Iterable[TopicChange], action: TopicAction
) -> list[TopicState]:
    return [state for state, change in zip(wanted, plan, strict=True) if change.action is action]


@asynccontextmanager
async def _admin(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    async with administration(settings) as admin, reaching(settings, _DEADLINE_SECONDS):
        yield admin


async def _read(admin: AIOKafkaAdminClient, names: Iterable[str]) -> tuple[TopicState, ...]:
    # All topics are asked for: naming one that is missing could create it.
    described = {topic["topic"]: topic for topic in await admin.describe_topics()}
    found = [name for name in names if name in described and described[name]["partitions"]]
    settings = await _read_settings(admin, found)
    return tuple(
        TopicState(
            name=name,
            partitions=len(described[name]["partitions"]),
            replication_factor=len(described[name]["partitions"][0]["replicas"]),
            settings=settings[name],
        )
        for name in found
    )


async def _read_settings(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    settings = {}
    for response in await admin.describe_configs(asked):
        for code, message, _, name, entries in response.resources:
            _check(code, message, f"describe {name}")
            settings[name] = {entry[0]: entry[1] for entry in entries if entry[3] == _SET_ON_TOPIC}
    return settings


async def _create(admin: AIOKafkaAdminClient, topics: list[TopicState]) -> None:
    if not topics:
        return
    new = [
        NewTopic(t.name, t.partitions, t.replication_factor, topic_configs=dict(t.settings)) for t in topics
    ]
    response = await admin.create_topics(new)
    for name, code, message in response.topic_errors:
        if for_code(code) is not TopicAlreadyExistsError:
            _check(code, message, f"create {name}")


async def _alter(
    admin: AIOKafkaAdminClient, topics: list[TopicState], present: tuple[TopicState, ...]
) -> None:
    if not topics:
        return
    held: Mapping[str, Mapping[str, str]] = {state.name: state.settings for state in present}
    # This request replaces all settings of a topic: those that others have made go along.
    altered = [
        ConfigResource(
            ConfigResourceType.TOPIC, t.name, {**held[t.name], **differing(t.settings, held[t.name])}
        )
        for t in topics
    ]
    for response in await admin.alter_configs(altered):
        for code, message, _, name in response.resources:
            _check(code, message, f"alter {name}")


async def _await_applied(admin: AIOKafkaAdminClient, wanted: tuple[TopicState, ...]) -> None:
    # A broker answers a change before it shows it.
    while not await _is_applied(admin, wanted):  # noqa: ASYNC110 - the broker announces nothing
        await asyncio.sleep(_POLL_SECONDS)


async def _is_applied(admin: AIOKafkaAdminClient, wanted: tuple[TopicState, ...]) -> bool:
    led = {topic["topic"] for topic in await admin.describe_topics() if _is_led(topic)}
    names = [state.name for state in wanted]
    if not led.issuperset(names):
        return False
    plan = plan_topics(wanted, await _read(admin, names))
    return all(change.action is TopicAction.KEEP for change in plan)


def _is_led(topic: Mapping[str, Any]) -> bool:
    partitions = topic["partitions"]
    return bool(partitions) and all(partition["leader"] >= 0 for partition in partitions)


def _check(code: int, message: str | None, doing: str) -> None:
    kind: type[KafkaError] = for_code(code)
    if code != 0:
        raise TopicsError(f"Kafka refused to {doing}: {message or kind.__name__}")
