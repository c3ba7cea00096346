"""Records that retention deleted before they were read: found, counted, and shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import structlog
from aiokafka import TopicPartition

from tunestream.streams.fetch.resets import Gap
from tunestream.streams.watch import metrics

__all__ = ["Gaps", "gap_before"]

log = structlog.get_logger(__name__)
# The end of a transaction takes an offset, which no record has.
_MARKER: Final = 1


def gap_before(place: TopicPartition, position: int, beginning: int) -> Gap | None:
    """Return what is missing between a position and the first offset that a topic has.

    One offset alone is none: it is the mark of a transaction's end, behind the last record that was read.
    """
    return Gap(place, position, beginning) if beginning - position > _MARKER else None


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
        """Count gaps, log them, and show them from now on; each once, also when opening finds it again."""
        for found in gaps:
            known = self._found.get(found.place)
            again = known is not None and known.first <= found.first < known.end
            gap = found._replace(first=known.end) if known is not None and again else found
            if gap.first >= gap.end:
                continue
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
