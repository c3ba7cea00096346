"""Dead letters sent again, once their cause is mended.

Each letter and its mark commit in one transaction, so a letter is sent again at most once however often,
and however violently, this is interrupted. There is one transactional id for each partition of dead
letters, and the order is what makes it safe:

1. Start the producers. This fences a replay of the same letters that is under way, and ends its open
   transaction: from here on no mark of these letters comes but from us.
2. Read the marks, all of them.
3. Send the letters that have none.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    IllegalOperation,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTxnState,
    KafkaError,
    ProducerFenced,
)

from tunestream.config.settings import KafkaSettings
from tunestream.streams.atomic import await_readable, transaction, transactional_producer
from tunestream.streams.letters.dead_letters import DLQ_REPLAY_FOR
from tunestream.streams.letters.letter import DeadLetter
from tunestream.streams.letters.marks import mark_record, read_all_marks
from tunestream.streams.letters.reading import StoredLetter, stored_letters
from tunestream.streams.letters.spans import SpanReader
from tunestream.streams.publish import EncodedRecord
from tunestream.topics import dlq_of

__all__ = ["Overtaken", "Replayed", "replay", "replayed_record"]

# A replay that was killed holds up readers of its topics no longer than this.
_TRANSACTION_MS: Final = 30_000
# Of one transaction: few enough to be in memory, many enough that commits cost nothing.
_LETTERS: Final = 2000
_BYTES: Final = 8 << 20
# The start waits for the end of a transaction that a killed replay left open.
_START_SECONDS: Final = 2 * _TRANSACTION_MS / 1000

_FENCED: Final = (InvalidProducerEpoch, InvalidProducerIdMapping, InvalidTxnState, ProducerFenced)

_LOG_TIME: Final = "ce_tslogtime"


class Overtaken(Exception):
    """Another replay of the same dead letters was started meanwhile."""

    def __init__(self) -> None:
        super().__init__(
            "another replay took over these dead letters, or the broker ended a transaction of this one that "
            f"took more than {_TRANSACTION_MS // 1000} s"
        )


@dataclass(slots=True)
class Replayed:
    """What became of the letters of a replay.

    Attributes:
        sent: were sent again now.
        before: had been sent again before, and were not now.
        gone: had been deleted meanwhile.
    """

    sent: list[DeadLetter] = field(default_factory=list)
    before: list[DeadLetter] = field(default_factory=list)
    gone: list[DeadLetter] = field(default_factory=list)


async def replay(settings: KafkaSettings, letters: Iterable[DeadLetter]) -> Replayed:
    """Send letters again to where they were, each once, and return when they can be read.

    Args:
        settings: the broker.
        letters: none of them final.

    Raises:
        Overtaken: when the same is done elsewhere.
        TimeoutError: when another replay's transaction stays open.
    """
    by_place: dict[tuple[str, int], list[DeadLetter]] = defaultdict(list)
    for letter in letters:
        by_place[letter.source, letter.partition].append(letter)
    report = Replayed()
    ends: dict[TopicPartition, int] = {}
    try:
        async with AsyncExitStack() as stack:
            producers = {
                place: await stack.enter_async_context(_fencing(settings, *place)) for place in by_place
            }
            for place, chosen in by_place.items():
                await _Replay(settings, producers[place], report, ends).run(*place, chosen)
    except KafkaError as error:
        if _is_fenced(error):
            raise Overtaken from error
        raise
    await await_readable(settings, ends)
    return report


def _fencing(
    settings: KafkaSettings, source: str, partition: int
) -> AbstractAsyncContextManager[AIOKafkaProducer]:
    """Start the one producer that may send the dead letters of a partition again."""
    # A topic's limit is on what is compressed: some of the records were let in by their compression alone.
    return transactional_producer(
        settings,
        f"dlq-replay-{source}-{partition}",
        start_seconds=_START_SECONDS,
        timeout_ms=_TRANSACTION_MS,
        compression="zstd",
    )


@dataclass(frozen=True, slots=True)
class _Replay:
    """The replay of one partition's letters; adds to what is common to all of them."""

    settings: KafkaSettings
    producer: AIOKafkaProducer
    report: Replayed
    ends: dict[TopicPartition, int]

    async def run(self, source: str, partition: int, letters: Sequence[DeadLetter]) -> None:
        marks = await read_all_marks(self.settings, partition)
        fresh = {letter.offset: letter for letter in letters if marks.replayed(letter) is None}
        self.report.before.extend(letter for letter in letters if letter.offset not in fresh)
        if not fresh:
            return
        async with SpanReader(self.settings, [self.settings.topic(dlq_of(source))]) as reader:
            for span in await reader.spans(partition=partition):
                async for part in _parts(stored_letters(reader, span, source, set(fresh))):
                    await self._commit(part)
                    self.report.sent.extend(fresh.pop(stored.letter.offset) for stored in part)
        self.report.gone.extend(fresh.values())

    async def _commit(self, part: Sequence[StoredLetter]) -> None:
        now = datetime.now(UTC)
        records = [
            record for stored in part for record in (replayed_record(stored), mark_record(stored.letter, now))
        ]
        try:
            async with transaction(self.producer, _TRANSACTION_MS / 1000):
                await self._write(records)
        except TimeoutError as error:
            raise Overtaken from error

    async def _write(self, records: Sequence[EncodedRecord]) -> None:
        deliveries: list[asyncio.Future[Any]] = []
        for record in records:
            try:
                deliveries.append(await self._send(record))
            except IllegalOperation as error:  # the client has given up: what it took before shows why
                raise _failed(deliveries) or Overtaken() from error
        # Each is awaited: a record that was not delivered does not make the commit fail.
        for written in await asyncio.gather(*deliveries):
            self.ends[written.topic_partition] = written.offset + 1

    async def _send(self, record: EncodedRecord) -> asyncio.Future[Any]:
        sent: asyncio.Future[Any] = await self.producer.send(
            self.settings.topic(record.topic),
            record.value,
            record.key,
            partition=record.partition,
            headers=list(record.headers),
        )
        return sent


def _failed(deliveries: Iterable[asyncio.Future[Any]]) -> BaseException | None:
    """Return why one of the records was not delivered, as far as that is known."""
    known = (one.exception() for one in deliveries if one.done() and not one.cancelled())
    return next((error for error in known if error is not None), None)


def _is_fenced(error: BaseException | None) -> bool:
    """Return whether a later producer has our transactional id: the broker has many words for it."""
    return error is not None and (
        isinstance(error, _FENCED) or _is_fenced(error.__cause__ or error.__context__)
    )


async def _parts(letters: AsyncIterator[StoredLetter]) -> AsyncIterator[list[StoredLetter]]:
    """Yield letters as many at a time as one transaction takes."""
    part: list[StoredLetter] = []
    size = 0
    async for stored in letters:
        part.append(stored)
        size += len(stored.record.value or b"")
        if len(part) == _LETTERS or size >= _BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def replayed_record(stored: StoredLetter) -> EncodedRecord:
    """Return the record that sends a letter again, to where it was and to the service that refused it.

    The broker's time makes it as new as any other record. Its id stays.
    """
    letter = stored.letter
    kept = [(name, value) for name, value in stored.headers if name != _LOG_TIME]
    return EncodedRecord(
        letter.source,
        stored.record.key,
        stored.record.value,
        [*kept, (DLQ_REPLAY_FOR, letter.service.encode())],
        letter.source_partition,
    )
