"""Where a task begins to read an input: by what was committed, what the state holds, what the topic has."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from tunestream.config.settings import KafkaSettings
from tunestream.streams.broker.client import make_consumer
from tunestream.streams.changelog.values import Reached
from tunestream.streams.fetch.resets import Gap
from tunestream.streams.offsets.gaps import gap_before
from tunestream.streams.offsets.moves import Move
from tunestream.topics import Topic

__all__ = ["Starts"]

log = structlog.get_logger(__name__)
_READ_SECONDS: Final = 10.0
_CHANGED: Final = (
    "the topic was truncated, restored or created again, or the group's offset was set: "
    "what was read here is not in it"
)


class Starts:
    """Finds where the inputs of one task begin.

    Args:
        kafka: the broker.
        consumer: the group's consumer.
        service: for the log.

    Attributes:
        gaps: what was found to be deleted before it was read.
        moves: inputs that do not go on where their group's offset stands.
    """

    def __init__(self, kafka: KafkaSettings, consumer: AIOKafkaConsumer, service: str) -> None:
        self._kafka = kafka
        self._consumer = consumer
        self._log = log.bind(service=service)
        self.gaps: list[Gap] = []
        self.moves: list[Move] = []

    async def find(
        self, place: TopicPartition, topic: Topic, committed: int | None, reached: Reached | None
    ) -> int:
        """Return the offset of the next record of an input.

        Args:
            place: topic and partition.
            topic: of the catalogue.
            committed: the group's offset, None when it has none or it was deleted.
            reached: what the state holds, None when it holds nothing.
        """
        first = int((await self._consumer.beginning_offsets([place]))[place])
        if committed is None and reached is None:
            start = await self._without(place, topic, first)
            what = f"neither the group nor the state had a position: reading began at {start}, and not before"
            self.moves.append(Move(place, "missing", what if start else None))
            return start
        known = self._larger(place, committed, reached)
        end = (await self._consumer.end_offsets([place]))[place]
        if known.offset > end or await self._younger_before(place, known):
            moved = await self._after(place, topic, reached, first, end)
            self._log.warning(
                "position.moved",
                topic=place.topic,
                partition=place.partition,
                offset=known.offset,
                to=moved,
                end=end,
                reason=_CHANGED,
            )
            what = f"reading went on at {moved}, and the position was {known.offset}: {_CHANGED}"
            self.moves.append(Move(place, "moved", what))
            return moved
        if gap := gap_before(place, known.offset, first):
            self.gaps.append(gap)
        return max(known.offset, first)

    async def _without(self, place: TopicPartition, topic: Topic, first: int) -> int:
        """Return where reading begins without any position: at the beginning, or a while ago."""
        start = first
        if topic.lookback_ms is not None:
            start = await self._first_after(place, int(time.time() * 1000) - topic.lookback_ms)
        self._log.info(
            "position.missing",
            topic=place.topic,
            partition=place.partition,
            beginning=first,
            start=start,
            reason="neither the group nor the state has a position",
        )
        return start

    def _larger(self, place: TopicPartition, committed: int | None, reached: Reached | None) -> Reached:
        if reached is None or (committed is not None and committed > reached.offset):
            assert committed is not None
            return Reached(committed)
        # A position without a time was found, and no record was handled since: there is none to commit.
        untouched = committed is None and reached.time is None
        if committed != reached.offset and not untouched:
            self._log.warning(
                "position.from_state",
                topic=place.topic,
                partition=place.partition,
                committed=committed,
                offset=reached.offset,
                reason="the state is further than the group's offset; `tunestream streams seek` sets both",
            )
            group = "has no offset" if committed is None else f"is at offset {committed}"
            what = (
                f"the group {group}, and the state at {reached.offset}, which counts: the group's offsets "
                "were deleted or set by hand; `tunestream streams seek` sets both"
            )
            self.moves.append(Move(place, "from_state", what))
        return reached

    async def _younger_before(self, place: TopicPartition, known: Reached) -> bool:
        """Return whether the record before a position is younger than the one that was read there."""
        if known.time is None or await self._first_after(place, known.time) >= known.offset:
            return False
        # Or the broker's clock was set back at some time: the record itself decides.
        found = await self._time_at(place, known.offset - 1)
        return found is not None and found > known.time

    async def _after(
        self, place: TopicPartition, topic: Topic, reached: Reached | None, first: int, end: int
    ) -> int:
        if reached is None:
            return await self._without(place, topic, first)
        if reached.offset <= end and not await self._younger_before(place, reached):
            return max(reached.offset, first)  # the group's offset alone is wrong
        if reached.time is None:
            return await self._without(place, topic, first)
        return min(await self._first_after(place, reached.time), end)

    async def _first_after(self, place: TopicPartition, moment: int) -> int:
        """Return the offset of the first record after ``moment`` (ms); without one, the end."""
        found = (await self._consumer.offsets_for_times({place: moment + 1}))[place]
        if found is None:
            return int((await self._consumer.end_offsets([place]))[place])
        return int(found.offset)

    async def _time_at(self, place: TopicPartition, offset: int) -> int | None:
        """Return the time of the record at an offset or next after it; None when it cannot be read."""
        try:
            async with (
                asyncio.timeout(_READ_SECONDS),
                make_consumer(self._kafka, isolation_level="read_uncommitted", undecodable=True) as consumer,
            ):
                consumer.assign([place])
                consumer.seek(place, offset)
                return int((await consumer.getone(place)).timestamp)
        except (KafkaError, TimeoutError) as error:
            self._log.warning("position.unchecked", topic=place.topic, offset=offset, reason=repr(error))
            return None
