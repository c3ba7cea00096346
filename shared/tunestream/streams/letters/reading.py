"""Dead letters read partition by partition, in large fetches, from where they are wanted on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Collection, Iterable
from dataclasses import dataclass

from aiokafka import ConsumerRecord

from tunestream.config.settings import KafkaSettings
from tunestream.streams.letters.dead_letters import Headers, original_headers
from tunestream.streams.letters.letter import SOURCES, DeadLetter
from tunestream.streams.letters.spans import Span, SpanReader
from tunestream.topics import dlq_of

__all__ = ["Choice", "StoredLetter", "chosen_letters", "named_letters", "stored_letters"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which dead letters are wanted; None takes all.

    Attributes:
        source: catalogue name of the topic they were refused from.
        reason: code of the reason, or its family.
        run_id: the run in their key.
        since: refused at this time or later, milliseconds since the epoch.
    """

    source: str | None = None
    reason: str | None = None
    run_id: str | None = None
    since: int | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """The topics that they were refused from."""
        return SOURCES if self.source is None else (self.source,)

    def takes(self, letter: DeadLetter) -> bool:
        """Return whether a letter of one of the sources is wanted."""
        return (
            self.reason in (None, letter.code, letter.code.partition(".")[0])
            and self.run_id in (None, letter.run_id)
            and (self.since is None or letter.time >= self.since)
        )


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A dead letter with the record in which it is kept."""

    letter: DeadLetter
    record: ConsumerRecord

    @property
    def headers(self) -> Headers:
        """The headers of the refused record."""
        return original_headers(self.record.headers)


async def chosen_letters(settings: KafkaSettings, choice: Choice) -> AsyncGenerator[DeadLetter]:
    """Yield the letters of a choice that there are now, in order of topic, partition and offset."""
    queues = {settings.topic(dlq_of(source)): source for source in choice.sources}
    async with SpanReader(settings, queues) as reader:
        for span in await reader.spans(since=choice.since):
            source = queues[span.place.topic]
            async for record in reader.read(span):
                letter = DeadLetter.of(source, record)
                if choice.takes(letter):
                    yield letter


async def named_letters(
    settings: KafkaSettings, places: Iterable[tuple[str, int, int]]
) -> AsyncGenerator[StoredLetter]:
    """Yield the letters at these sources, partitions and offsets; what is not there is left out."""
    wanted: dict[tuple[str, int], set[int]] = defaultdict(set)
    for source, partition, offset in places:
        wanted[source, partition].add(offset)
    queues = {settings.topic(dlq_of(source)): source for source, _ in wanted}
    async with SpanReader(settings, queues) as reader:
        for span in await reader.spans():
            source = queues[span.place.topic]
            if offsets := wanted.get((source, span.place.partition)):
                async for stored in stored_letters(reader, span, source, offsets):
                    yield stored


async def stored_letters(
    reader: SpanReader, span: Span, source: str, offsets: Collection[int]
) -> AsyncGenerator[StoredLetter]:
    """Yield letters of one partition with their records; what is not there any more is left out."""
    first, end = max(min(offsets), span.first), min(max(offsets) + 1, span.end)
    async for record in reader.read(Span(span.place, first, end)):
        if record.offset in offsets:
            yield StoredLetter(DeadLetter.of(source, record), record)
