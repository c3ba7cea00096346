"""Records that retention deleted before they were read: found, counted, and shown."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final, NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from tunestream.streams import metrics

__all__ = ["Gap", "Gaps", "Jumps", "gap_before"]

log = structlog.get_logger(__name__)
# The end of a transaction takes an offset, which no record has.
_MARKER: Final = 1
_PAUSE_SECONDS: Final = 2.0


class Gap(NamedTuple):
    """Offsets of an input that were deleted before they were read.

    Attributes:
        place: topic, with the prefix, and partition.
        first: the first of them.
        end: the first after them.
    """

    place: TopicPartition
    first: int
    end: int


def gap_before(place: TopicPartition, position: int, beginning: int) -> Gap | None:
    """Return what is missing between a position and the first offset that a topic has.

    One offset alone is none: it is the mark of a transaction's end, behind the last record that was read.
    """
    return Gap(place, position, beginning) if beginning - position > _MARKER else None


class Jumps:
    """Where the offsets of a task's inputs went on further than expected.

    Most jumps are marks of transactions, or records of aborted ones. The client also jumps, in silence, to
    the beginning of what is left when its position was deleted. Only the topic's beginning shows which.
    """

    def __init__(self) -> None:
        self._found: dict[TopicPartition, tuple[int, int]] = {}
        self._due = 0.0

    def note(self, place: TopicPartition, position: int, offset: int) -> None:
        """Note that a record came with ``offset``, where ``position`` was the next."""
        if offset - position > _MARKER:
            self._found.setdefault(place, (position, offset))

    async def gaps(self, consumer: AIOKafkaConsumer) -> list[Gap]:
        """Return those of the jumps that were gaps, and forget the jumps; asks the broker now and then."""
        if not self._found or time.monotonic() < self._due:
            return []
        beginnings = await consumer.beginning_offsets(list(self._found))
        found, self._found = self._found, {}
        self._due = time.monotonic() + _PAUSE_SECONDS
        gaps = (
            gap_before(place, position, min(beginnings[place], offset))
            for place, (position, offset) in found.items()
            if place in beginnings
        )
        return [gap for gap in gaps if gap is not None]


class Gaps:
    """The gaps that a process has met."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._found: dict[TopicPartition, Gap] = {}

    def watch(self, places: Iterable[TopicPartition]) -> None:
        """Have the counters of inputs from the start, with 0."""
        for place in places:
            metrics.GAPS.labels(self._service, place.topic, place.partition)

    def report(self, gaps: Iterable[Gap]) -> None:
        """Count gaps, log them, and show them from now on."""
        for gap in gaps:
            self._found[gap.place] = gap
            metrics.GAPS.labels(self._service, *gap.place).inc(gap.end - gap.first)
            log.error(
                "partition.gap",
                service=self._service,
                topic=gap.place.topic,
                partition=gap.place.partition,
                first=gap.first,
                end=gap.end,
                reason="retention deleted these offsets before they were read",
            )

    def warnings(self) -> list[str]:
        """Return a line for the latest gap of each partition."""
        return [
            f"partition {gap.place.partition} of {gap.place.topic}: offsets {gap.first} to {gap.end - 1} "
            "were deleted before they were read; raise the topic's retention, or start services sooner"
            for gap in self._found.values()
        ]
