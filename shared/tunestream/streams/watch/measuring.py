"""The series of a service: there from the start, gone with their partition, and true in between."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from tunestream.streams.letters.dead_letters import REASONS
from tunestream.streams.watch import metrics

__all__ = ["Measures"]

_ASK_SECONDS: Final = 10.0
# Faults that are likely; an alert sees the first one only where its series was there before.
_FAULTS: Final = (
    "CommitFailedError",
    "KafkaConnectionError",
    "KafkaError",
    "KafkaTimeoutError",
    "KeyError",
    "NotCoordinatorForGroupError",
    "OSError",
    "ProducerFenced",
    "RequestTimedOutError",
    "RuntimeError",
    "TableTimeout",
    "TimeoutError",
    "ValidationError",
    "ValueError",
)


class Measures:
    """Sets the gauges of the partitions of one process.

    Args:
        service: the service's name.
        counted: what its domain counts, as far as it is known.
    """

    def __init__(self, service: str, counted: Iterable[str]) -> None:
        self._service = service
        self._names: dict[int, set[str]] = defaultdict(set)
        self._places: dict[int, set[TopicPartition]] = defaultdict(set)
        for reason in REASONS:
            metrics.DEAD_LETTERS.labels(service, reason)
        for fault in _FAULTS:
            metrics.ABORTS.labels(service, fault)
        metrics.POLL_FAILURES.labels(service)
        metrics.REPLICA_CONFLICTS.labels(service)
        for name in counted:
            metrics.DOMAIN_EVENTS.labels(service, name)

    def begin(self, number: int) -> None:
        """Show a partition's counters, at what they were when it was here before."""
        metrics.RECORDS.labels(self._service, number)
        metrics.RESTORED.labels(self._service, number)

    def forget(self, number: int) -> None:
        """Remove the gauges of a partition that was given back: they would stand still here."""
        for name in self._names.pop(number, ()):
            metrics.STATE.remove(self._service, number, name)
        for place in self._places.pop(number, ()):
            metrics.LAG.remove(self._service, place.topic, number)

    def state(self, number: int, values: Mapping[str, float]) -> None:
        """Show what a partition's state looks like."""
        for name, value in values.items():
            self._names[number].add(name)
            metrics.STATE.labels(self._service, number, name).set(value)

    async def lag(self, consumer: AIOKafkaConsumer, handled: Mapping[TopicPartition, int]) -> None:
        """Show how many records wait, up to the last stable offset as of now.

        Args:
            consumer: the group's.
            handled: how far each input is handled, the ends of transactions passed.
        """
        if not handled:
            return
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                ends = await consumer.end_offsets(list(handled))
        except (KafkaError, OSError, TimeoutError):
            return  # readiness shows that the broker is away
        for place, end in ends.items():
            self._places[place.partition].add(place)
            metrics.LAG.labels(self._service, place.topic, place.partition).set(max(0, end - handled[place]))
