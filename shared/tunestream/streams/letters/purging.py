"""Old dead letters deleted, whole prefixes of their partitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka import TopicPartition

from tunestream.config.settings import KafkaSettings
from tunestream.streams.admin import delete_before
from tunestream.streams.letters.marks import read_marks, tombstone
from tunestream.streams.letters.spans import SpanReader
from tunestream.streams.publish import EventProducer
from tunestream.topics import dlq_of

__all__ = ["Purge", "plan_purge", "purge"]


@dataclass(frozen=True, slots=True)
class Purge:
    """What can be deleted of one partition: the letters before the first one that stays.

    Attributes:
        source: catalogue name of the topic they were refused from.
        partition: in which they lie.
        end: the first offset that stays.
        letters: how many there are before it.
    """

    source: str
    partition: int
    end: int
    letters: int


async def plan_purge(settings: KafkaSettings, sources: Sequence[str], before: int) -> list[Purge]:
    """Return what lies before the first letter of a time or later, by partition.

    Args:
        settings: the broker.
        sources: catalogue names of the topics that the letters were refused from.
        before: milliseconds since the epoch.
    """
    queues = {settings.topic(dlq_of(source)): source for source in sources}
    plans = []
    async with SpanReader(settings, queues) as reader:
        for span in await reader.spans(before=before):
            letters = 0
            async for _ in reader.read(span):
                letters += 1
            plans.append(Purge(queues[span.place.topic], span.place.partition, span.end, letters))
    return [plan for plan in plans if plan.letters]


async def purge(settings: KafkaSettings, plans: Sequence[Purge]) -> None:
    """Delete letters, and then their marks.

    In this order a letter is never without its mark; marks that are left after an interruption go with
    the next purge.

    Raises:
        KafkaError: when Kafka refuses it.
        BrokerUnavailable: when no broker answers.
    """
    ends = {TopicPartition(settings.topic(dlq_of(plan.source)), plan.partition): plan.end for plan in plans}
    await delete_before(settings, ends)
    marks = await read_marks(settings)
    async with EventProducer(settings) as producer:
        for plan in plans:
            for mark in marks.before(plan.source, plan.partition, plan.end):
                await producer.send(tombstone(mark))
