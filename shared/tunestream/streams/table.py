"""A compacted topic as a dictionary: read to its end before work starts, followed afterwards."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from pydantic import BaseModel

from tunestream.config.settings import KafkaSettings
from tunestream.domain.effects import Refused
from tunestream.streams.broker.client import make_consumer
from tunestream.streams.broker.deadlines import words
from tunestream.streams.broker.metadata import partition_count
from tunestream.streams.changelog.absence import Absence, Reading
from tunestream.streams.changelog.restoring import is_too_old, make_room
from tunestream.streams.fetch.undecodable import Undecodable
from tunestream.streams.tasks.decoding import decode
from tunestream.topics import topic as catalogued

__all__ = ["Table", "TableTimeout"]

READ_DEADLINE: Final = 60.0
_POLL_MS: Final = 200
_AFTER_ERROR: Final = 1.0
# A record that cannot be read may have a key of any size.
_LONGEST_NAME: Final = 200
_LONGEST_REASON: Final = 1000

Value = TypeVar("Value")
log = structlog.get_logger(__name__)


class TableTimeout(Exception):
    """A compacted topic could not be read to its end in time."""


class Table(Generic[Value]):
    """The latest value of each key of a compacted topic.

    A record that cannot be read, or whose type is newer than this release, is skipped: its key keeps the
    value that it had, and no other key is concerned. Nothing that a record holds ends the follower.

    Args:
        settings: the broker.
        topic: catalogue name.
        value_of: makes a value of a record's body; an error skips the record.

    Attributes:
        refreshes: how often it was read to its end.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        value_of: Callable[[BaseModel], Value],
    ) -> None:
        self._settings = settings
        self._topic = settings.topic(topic)
        self._accepted = catalogued(topic).bodies()
        self._value_of = value_of
        self._values: dict[bytes, Value] = {}
        self._skipped: dict[bytes, str] = {}  # why, by the keys whose latest record was skipped
        self._on_skip: Callable[[str], None] | None = None
        self._stopped_by: str | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._asker: AIOKafkaConsumer | None = None
        self._partitions: list[TopicPartition] = []
        self._positions: dict[TopicPartition, int] = {}
        self.refreshes = 0
        self._whole_at = -math.inf
        self._refreshing = asyncio.Lock()
        self._moved = asyncio.Condition()
        self._follower: asyncio.Task[None] | None = None
        self._watchers: list[Callable[[], None]] = []
        self._absence = Absence()
        self._stale = False
        self._reading: Reading | None = None
        self._slow = False

    @property
    def topic(self) -> str:
        """The topic's full name."""
        return self._topic

    def watch(self, changed: Callable[[], None]) -> None:
        """Have ``changed`` called after records were read."""
        self._watchers.append(changed)

    def on_skip(self, skipped: Callable[[str], None]) -> None:
        """Have ``skipped`` called with the topic's full name for each record that is skipped."""
        self._on_skip = skipped

    def warnings(self) -> list[str]:
        """Return what is wrong: keys whose latest record was skipped, and that reading does not go on."""
        found = []
        if self._stopped_by is not None:
            found.append(f"topic {self._topic} cannot be read on: {self._stopped_by}")
        if self._slow:
            found.append(
                f"topic {self._topic} is read again: the last time took longer than half of how long its "
                "tombstones live; raise its delete.retention.ms"
            )
        if self._skipped:
            key, reason = next(iter(self._skipped.items()))
            count, name = len(self._skipped), key[:_LONGEST_NAME].decode(errors="replace")
            found.append(
                f"topic {self._topic}: the latest records of {count} keys were skipped, e.g. {name}: {reason}"
            )
        return found

    def get(self, key: bytes) -> Value | None:
        """Return the latest value of ``key`` that was read, or None."""
        return self._values.get(key)

    def values(self) -> Iterator[Value]:
        """Return the latest values of all keys."""
        return iter(tuple(self._values.values()))

    async def __aenter__(self) -> Self:
        count = await partition_count(self._settings, self._topic)
        self._partitions = [TopicPartition(self._topic, number) for number in range(count)]
        self._consumer = make_consumer(self._settings, undecodable=True)
        # The broker answers a connection's requests in order: this one is free of waiting fetches.
        self._asker = make_consumer(self._settings)
        try:
            await self._consumer.start()
            await self._asker.start()
            self._consumer.assign(self._partitions)
            await self._begin(self._consumer)
            self._follower = asyncio.create_task(self._follow(self._consumer), name=f"table {self._topic}")
            await self.refresh()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        for consumer in (self._consumer, self._asker):
            if consumer is not None:
                await consumer.stop()

    async def refresh_since(self, moment: float) -> None:
        """Read to the end of the topic as it is, unless that was done after ``moment``.

        Args:
            moment: monotonic clock, seconds.

        Raises:
            TableTimeout: when the end was not reached in time.
        """
        async with self._refreshing:
            if self._whole_at < moment:
                await self.refresh()

    async def refresh(self, deadline: float = READ_DEADLINE) -> None:
        """Read to the end of the topic as of now; where that was read already, it costs one request.

        Raises:
            TableTimeout: when nothing came for ``deadline`` seconds before the end.
        """
        assert self._asker is not None
        began = time.monotonic()
        self.refreshes += 1
        ends: dict[TopicPartition, int] | None = None
        while True:
            before = dict(self._positions)
            try:
                async with asyncio.timeout(deadline):
                    ends = ends or await self._asker.end_offsets(self._partitions)
                    await self._reach(ends)
                break
            except TimeoutError:
                if self._positions != before:
                    continue
                reason = self._stopped_by or "is the broker up?"
                raise TableTimeout(
                    f"topic {self._topic} was not read on within {deadline:.0f} s; {reason}"
                ) from None
        self._whole_at = max(self._whole_at, began)

    async def _reach(self, ends: dict[TopicPartition, int]) -> None:
        async with self._moved:
            await self._moved.wait_for(lambda: self._reached(ends))

    def _reached(self, ends: dict[TopicPartition, int]) -> bool:
        return all(self._positions[partition] >= end for partition, end in ends.items())

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            try:
                await self._read_on(consumer)
                self._stopped_by = None
            except Exception as error:  # noqa: BLE001 # no record and no broker ends the follower
                reason = words(error)
                if reason != self._stopped_by:
                    log.warning("table.read_failed", topic=self._topic, error=reason)
                self._stopped_by = reason
                # A poll that raises has moved the positions of records that it did not return.
                self._seek(consumer)
                await asyncio.sleep(_AFTER_ERROR)

    def _seek(self, consumer: AIOKafkaConsumer) -> None:
        for partition, position in self._positions.items():
            consumer.seek(partition, position)

    async def _start_over(self, consumer: AIOKafkaConsumer) -> None:
        """Read the topic again; what it does not hold any more is removed at the end.

        The values stay meanwhile: most of them are right.
        """
        log.warning("table.read_again", topic=self._topic, reason="tombstones came and went meanwhile")
        await self._begin(consumer)
        self._stale = False

    async def _begin(self, consumer: AIOKafkaConsumer) -> None:
        """Go to the beginning of the topic."""
        assert self._asker is not None
        self._reading = Reading(await self._asker.end_offsets(self._partitions), self._topic)
        self._positions = await self._asker.beginning_offsets(self._partitions)
        self._seek(consumer)

    async def _read_on(self, consumer: AIOKafkaConsumer) -> None:
        fetched = await consumer.getmany(timeout_ms=_POLL_MS)
        self._stale |= self._absence.was_long(consumer, self._partitions)
        if self._stale:
            await self._start_over(consumer)
            return
        for records in fetched.values():
            for record in records:
                self._apply(record)
        async with self._moved:
            for partition in self._partitions:
                self._positions[partition] = await consumer.position(partition)
            done = self._forget_gone()
            self._moved.notify_all()
        if done is not None:
            await self._judge(done)
        if fetched:
            for changed in self._watchers:
                changed()

    def _apply(self, record: ConsumerRecord) -> None:
        key = record.key
        if key is None and not isinstance(record, Undecodable):
            return
        key = key or b""
        if self._reading is not None:
            self._reading.note(key)
        try:
            if record.value is None:
                self._remove(key)
            else:
                body = decode(record, self._accepted, of_services=True).body
                assert isinstance(body, BaseModel)
                self._values[key] = self._value_of(body)
            self._skipped.pop(key, None)
        except Exception as error:  # noqa: BLE001 # what was there before stays: one bad record stops nobody
            self._skip(key, str(error) if isinstance(error, Refused | ValueError) else repr(error))

    def _forget_gone(self) -> Reading | None:
        """Forget what the topic does not hold any more, when it is read to its end; returns the reading."""
        reading = self._reading
        gone = reading.gone(self._values.keys(), self._positions) if reading is not None else None
        if gone is None:
            return None
        self._reading = None
        for key in gone:
            self._remove(key)
        return reading

    async def _judge(self, reading: Reading) -> None:
        """Have the topic read again when its reading took so long that it may have missed tombstones."""
        if not reading.was_slow:
            self._slow = False
            return
        self._slow = self._stale = True  # also when the broker does not answer now
        self._slow = self._stale = await is_too_old(self._settings, reading.progress)
        if self._slow:
            await make_room(self._settings, reading.progress)

    def _remove(self, key: bytes) -> None:
        self._values.pop(key, None)

    def _skip(self, key: bytes, reason: str) -> None:
        name = key[:_LONGEST_NAME].decode(errors="replace")
        reason = reason[:_LONGEST_REASON]
        self._skipped[key] = reason
        log.warning("table.record_skipped", topic=self._topic, key=name, message=reason)
        if self._on_skip is not None:
            self._on_skip(self._topic)
