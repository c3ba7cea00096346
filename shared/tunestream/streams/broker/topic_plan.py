"""What the catalogue wants of a broker's topics, against what is there. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from tunestream.topics import CATALOGUE, INPUTS, TOMBSTONE_SETTING, topic

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = [
    "TopicAction",
    "TopicChange",
    "TopicSettingChange",
    "TopicState",
    "UnequalPartitions",
    "check_equal",
    "differing",
    "plan_topics",
    "wanted_topics",
]

_PARTITIONS_REMEDY: Final = (
    "Another partition count would move keys between partitions: ask for the present one, or drain the "
    "services and use a new topic prefix (TUNESTREAM_KAFKA_TOPIC_PREFIX)."
)
# What a topic's count is that follows no other one, when nobody asks for a count.
_FIRST: Final = "ttc.events"
_REPLICATION_REMEDY: Final = (
    "Only Kafka's own tool changes a replication factor (kafka-reassign-partitions): "
    "run it, or ask for the present one."
)


class UnequalPartitions(RuntimeError):
    """Two topics whose partitions belong together have not equally many."""


class TopicAction(StrEnum):
    """What applying the catalogue does to a topic."""

    CREATE = "create"
    ALTER = "alter"
    REFUSE = "refuse"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class TopicState:
    """One topic, as a broker has it or as the catalogue wants it.

    Attributes:
        name: with the deployment's prefix.
        partitions: how many.
        replication_factor: copies of each partition.
        settings: what is set on the topic itself, without the broker's defaults.
    """

    name: str
    partitions: int
    replication_factor: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TopicSettingChange:
    """One setting of a topic that differs; ``current`` is None where the broker's default holds."""

    name: str
    current: str | None
    wanted: str


@dataclass(frozen=True, slots=True)
class TopicChange:
    """What is to be done to one topic.

    Attributes:
        name: with the deployment's prefix.
        action: create, alter, refuse or keep.
        partitions: how many the topic has, or will have when it is created.
        settings: the settings that differ; all of them for a new topic.
        reason: why it is refused, else None.
        remedy: what to do about a refusal, else None.
    """

    name: str
    action: TopicAction
    partitions: int
    settings: tuple[TopicSettingChange, ...] = ()
    reason: str | None = None
    remedy: str | None = None


def wanted_topics(settings: KafkaSettings, present: Iterable[TopicState] = ()) -> tuple[TopicState, ...]:
    """Return the catalogue's topics as they should be in a deployment.

    A count of partitions that somebody asks for is that of every topic. Else topics keep theirs, and a topic
    has as many as the one whose partitions belong to its own.

    Args:
        settings: the prefix, and the partitions and replicas of new topics.
        present: the topics that are there.
    """
    replicas = {"min.insync.replicas": str(settings.min_insync_replicas)}
    counts = {state.name: state.partitions for state in present}
    return tuple(
        TopicState(
            name=settings.topic(entry.name),
            partitions=_count(settings, entry.name, counts),
            replication_factor=settings.replication_factor,
            settings=entry.settings() | replicas,
        )
        for entry in CATALOGUE
    )


def _count(settings: KafkaSettings, name: str, counts: Mapping[str, int]) -> int:
    """Return how many partitions a topic should have."""
    if "partitions" in settings.model_fields_set:
        return settings.partitions
    leader = topic(name).follows
    if leader is not None:
        return _count(settings, leader, counts)
    first = counts.get(settings.topic(_FIRST), settings.partitions)
    return counts.get(settings.topic(name), first)


def check_equal(service: str, counts: Mapping[str, int]) -> None:
    """Make sure that the partitions of a service's topics belong together.

    Args:
        service: name.
        counts: partitions by catalogue name, of the topics that are there.

    Raises:
        UnequalPartitions: naming both topics, with the remedy.
    """
    for name, count in counts.items():
        leader = topic(name).follows
        if leader is None or leader not in counts:
            continue
        if count < counts[leader] or (name in INPUTS[service] and count > counts[leader]):
            raise UnequalPartitions(
                f"topic {name} has {count} partitions, and topic {leader} has {counts[leader]}, but they "
                f"belong together, number by number: if {name} holds nothing that is needed, delete it and "
                "run `tunestream topics apply`; else use a new topic prefix (TUNESTREAM_KAFKA_TOPIC_PREFIX)"
            )


def plan_topics(wanted: Iterable[TopicState], present: Iterable[TopicState]) -> tuple[TopicChange, ...]:
    """Return one change per wanted topic, in its order. Settings that nobody wants are left alone."""
    by_name = {state.name: state for state in present}
    return tuple(_plan(state, by_name.get(state.name)) for state in wanted)


def differing(wanted: Mapping[str, str], held: Mapping[str, str]) -> dict[str, str]:
    """Return those wanted settings that a topic does not have.

    Tombstones may be kept longer than the catalogue wants: a service whose restore takes long asks for it.
    """
    return {name: value for name, value in wanted.items() if not _holds(name, value, held.get(name))}


def _holds(name: str, wanted: str, held: str | None) -> bool:
    if name == TOMBSTONE_SETTING and held is not None:
        return int(held) >= int(wanted)
    return held == wanted


def _plan(wanted: TopicState, present: TopicState | None) -> TopicChange:
    held = present.settings if present else {}
    changes = tuple(
        TopicSettingChange(name, held.get(name), value)
        for name, value in differing(wanted.settings, held).items()
    )
    if present is None:
        return TopicChange(wanted.name, TopicAction.CREATE, wanted.partitions, changes)
    if refusal := _refusal(wanted, present):
        return TopicChange(wanted.name, TopicAction.REFUSE, present.partitions, changes, *refusal)
    action = TopicAction.ALTER if changes else TopicAction.KEEP
    return TopicChange(wanted.name, action, present.partitions, changes)


def _refusal(wanted: TopicState, present: TopicState) -> tuple[str, str] | None:
    if wanted.partitions != present.partitions:
        return f"has {present.partitions} partitions, not {wanted.partitions}", _PARTITIONS_REMEDY
    has, asked = present.replication_factor, wanted.replication_factor
    return None if has == asked else (f"has replication factor {has}, not {asked}", _REPLICATION_REMEDY)
