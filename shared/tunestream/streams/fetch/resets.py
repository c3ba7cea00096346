"""Where the client goes on in silence: its position was deleted, and it reads from what is left."""

from __future__ import annotations

from typing import Any, NamedTuple

from aiokafka import TopicPartition

__all__ = ["Gap", "Resets"]


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


class Resets:
    """Notes the offsets that a consumer passes because the topic does not have them any more.

    The client asks for an offset, learns that it is out of range, and moves its position to the beginning.
    The seam is between these two steps of its ``Fetcher``; tests/integration/streams/test_positions.py checks
    that it is where it was.

    Args:
        fetcher: the client's, before it fetched anything.
    """

    def __init__(self, fetcher: Any) -> None:
        self._fetch = fetcher._proc_fetch_request  # noqa: SLF001 # the seam
        self._move = fetcher._update_fetch_positions  # noqa: SLF001
        self._asked: dict[TopicPartition, int] = {}
        self._gaps: list[Gap] = []
        fetcher._proc_fetch_request = self.fetch  # noqa: SLF001
        fetcher._update_fetch_positions = self.move  # noqa: SLF001

    def take(self) -> list[Gap]:
        """Return what was passed since the last call."""
        found, self._gaps = self._gaps, []
        return found

    async def fetch(self, assignment: Any, node: int, request: Any) -> bool:
        """Fetch, and note the offsets that are out of range."""
        has_new = bool(await self._fetch(assignment, node, request))
        for topic, partitions in request.topics:
            for partition, offset, _size in partitions:
                place = TopicPartition(topic, partition)
                if assignment.state_value(place).awaiting_reset:
                    self._asked[place] = offset
                else:
                    self._asked.pop(place, None)
        return has_new

    async def move(self, assignment: Any, node: int, places: Any) -> bool:
        """Find new positions, and note what lies between them and the old ones."""
        needs_wakeup = bool(await self._move(assignment, node, places))
        for place in places:
            state = assignment.state_value(place)
            if place in self._asked and state.has_valid_position:
                first = self._asked.pop(place)
                if first < state.position:  # behind it, the topic was truncated
                    self._gaps.append(Gap(place, first, state.position))
        return needs_wakeup
