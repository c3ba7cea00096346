"""Partitions of topics read one after the other, each from an offset to an offset."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Final, Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from tunestream.config.settings import KafkaSettings
from tunestream.streams.broker.client import MissingTopic, make_consumer
from tunestream.streams.broker.deadlines import deadline
from tunestream.streams.broker.metadata import known_counts
from tunestream.streams.broker.unavailable import reaching

__all__ = ["Span", "SpanReader"]

# A fetch of one partition: thousands of letters a round trip.
_FETCH_BYTES: Final = 16 << 20
_POLL_MS: Final = 500
# A transaction that nobody ends is ended by the broker within this time; see replaying.
_SILENCE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Span:
    """The records of one partition from ``first`` to before ``end``."""

    place: TopicPartition
    first: int
    end: int


class SpanReader:
    """Reads committed records of topics, a partition at a time.

    Args:
        settings: the broker.
        topics: names on the broker, with the prefix, in the order in which they are read.
    """

    def __init__(self, settings: KafkaSettings, topics: Iterable[str]) -> None:
        self._settings = settings
        self._topics = tuple(topics)
        self._places: list[TopicPartition] = []
        self._consumer: AIOKafkaConsumer

    async def __aenter__(self) -> Self:
        self._consumer = make_consumer(
            self._settings, undecodable=True, max_partition_fetch_bytes=_FETCH_BYTES
        )
        try:
            async with reaching(self._settings):
                counts = await known_counts(self._settings, self._topics)
                await self._consumer.start()
            self._places = self._places_in(counts)
            self._consumer.assign(self._places)
            self._consumer.pause(*self._places)  # nothing is fetched before it is wanted
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    def _places_in(self, counts: Mapping[str, int]) -> list[TopicPartition]:
        """Return the partitions of the topics that exist: one that a release adds may not be there yet."""
        if not counts:
            raise MissingTopic(self._topics[0])
        return [TopicPartition(name, number) for name in counts for number in range(counts[name])]

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()

    async def spans(
        self, *, since: int | None = None, before: int | None = None, partition: int | None = None
    ) -> list[Span]:
        """Return what each partition holds now; partitions with nothing are left out.

        Args:
            since: begin at the first record of this time or later, milliseconds since the epoch.
            before: end before the first record of this time or later.
            partition: only this partition number.
        """
        places = [place for place in self._places if partition in (None, place.partition)]
        begins = await self._consumer.beginning_offsets(places)
        ends = await self._consumer.end_offsets(places)
        first = begins if since is None else await self._at(places, since, ends)
        end = ends if before is None else await self._at(places, before, ends)
        return [Span(place, first[place], end[place]) for place in places if first[place] < end[place]]

    async def _at(
        self, places: Iterable[TopicPartition], time: int, ends: dict[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """Return the offset of the first record of a time or later, else the end."""
        found = await self._consumer.offsets_for_times({place: max(0, time) for place in places})
        return {
            place: ends[place] if at is None else min(at.offset, ends[place]) for place, at in found.items()
        }

    async def read(self, span: Span) -> AsyncIterator[ConsumerRecord]:
        """Yield the records of a span.

        Raises:
            TimeoutError: when nothing comes for a minute before its end.
        """
        self._consumer.assign([span.place])
        self._consumer.seek(span.place, span.first)
        heard = monotonic()
        while await self._position(span.place) < span.end:
            fetched = await self._consumer.getmany(span.place, timeout_ms=_POLL_MS)
            records = fetched.get(span.place, ())
            if records:
                heard = monotonic()
            elif monotonic() - heard > _SILENCE:
                raise TimeoutError(
                    f"topic {span.place.topic}, partition {span.place.partition}: nothing came for "
                    f"{_SILENCE:.0f} s before offset {span.end}; is a transaction open?"
                )
            for record in records:
                if record.offset < span.end:
                    yield record

    async def _position(self, place: TopicPartition) -> int:
        """Return where the consumer is; it has to look when what it wanted was deleted meanwhile."""
        async with deadline(_SILENCE, f"finding the position in topic {place.topic}"):
            return int(await self._consumer.position(place))
