"""A compacted topic as a dictionary: read to its end before work starts, followed afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from pydantic import BaseModel

from tunestream.config.settings import KafkaSettings
from tunestream.domain.effects import Refused
from tunestream.streams.client import make_consumer
from tunestream.streams.decoding import decode
from tunestream.streams.metadata import partition_count
from tunestream.topics import topic as catalogued

__all__ = ["Table", "TableTimeout"]

READ_DEADLINE: Final = 60.0
_POLL_MS: Final = 200
_AFTER_ERROR: Final = 1.0

Value = TypeVar("Value")
log = structlog.get_logger(__name__)


class TableTimeout(Exception):
    """A compacted topic could not be read to its end in time."""


class Table(Generic[Value]):
    """The latest value of each key of a compacted topic.

    A record that cannot be read, or whose type is newer than this release, is skipped: its key keeps the
    value that it had.

    Args:
        settings: the broker.
        topic: catalogue name.
        value_of: makes a value of a record's body; a ValueError skips the record.
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
        self._consumer: AIOKafkaConsumer | None = None
        self._partitions: list[TopicPartition] = []
        self._positions: dict[TopicPartition, int] = {}
        self._moved = asyncio.Condition()
        self._follower: asyncio.Task[None] | None = None
        self._watchers: list[Callable[[], None]] = []

    def watch(self, changed: Callable[[], None]) -> None:
        """Have ``changed`` called after records were read."""
        self._watchers.append(changed)

    def on_skip(self, skipped: Callable[[str], None]) -> None:
        """Have ``skipped`` called with the topic's full name for each record that is skipped."""
        self._on_skip = skipped

    def warnings(self) -> list[str]:
        """Return, in one line or none, of how many keys the latest record was skipped."""
        if not self._skipped:
            return []
        key, reason = next(iter(self._skipped.items()))
        count, name = len(self._skipped), key.decode(errors="replace")
        return [
            f"topic {self._topic}: the latest records of {count} keys were skipped, e.g. {name}: {reason}"
        ]

    def get(self, key: bytes) -> Value | None:
        """Return the latest value of ``key`` that was read, or None."""
        return self._values.get(key)

    def values(self) -> Iterator[Value]:
        """Return the latest values of all keys."""
        return iter(tuple(self._values.values()))

    async def __aenter__(self) -> Self:
        count = await partition_count(self._settings, self._topic)
        self._partitions = [TopicPartition(self._topic, number) for number in range(count)]
        self._consumer = make_consumer(self._settings)
        await self._consumer.start()
        try:
            self._consumer.assign(self._partitions)
            await self._consumer.seek_to_beginning(*self._partitions)
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
        if self._consumer is not None:
            await self._consumer.stop()

    async def refresh(self, deadline: float = READ_DEADLINE) -> None:
        """Read to the end of the topic as of now.

        Raises:
            TableTimeout: when the end was not reached within ``deadline`` seconds.
        """
        assert self._consumer is not None
        assert self._follower is not None
        try:
            async with asyncio.timeout(deadline):
                ends = await self._consumer.end_offsets(self._partitions)
                reaching = asyncio.create_task(self._reach(ends))
                try:
                    await asyncio.wait({reaching, self._follower}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    reaching.cancel()
        except TimeoutError:
            raise TableTimeout(
                f"topic {self._topic} was not read to its end within {deadline:.0f} s; is the broker up?"
            ) from None
        if self._follower.done():
            self._follower.result()

    async def _reach(self, ends: dict[TopicPartition, int]) -> None:
        async with self._moved:
            await self._moved.wait_for(lambda: self._reached(ends))

    def _reached(self, ends: dict[TopicPartition, int]) -> bool:
        return all(self._positions.get(partition, 0) >= end for partition, end in ends.items())

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            try:
                fetched = await consumer.getmany(timeout_ms=_POLL_MS)
                for records in fetched.values():
                    for record in records:
                        self._apply(record)
                if fetched:
                    for changed in self._watchers:
                        changed()
                async with self._moved:
                    for partition in self._partitions:
                        self._positions[partition] = await consumer.position(partition)
                    self._moved.notify_all()
            except KafkaError as error:
                log.warning("table.read_failed", topic=self._topic, error=repr(error))
                await asyncio.sleep(_AFTER_ERROR)

    def _apply(self, record: ConsumerRecord) -> None:
        key = record.key
        if key is None:
            return
        try:
            if record.value is None:
                self._values.pop(key, None)
            else:
                self._values[key] = self._value_of(decode(record, self._accepted).body)
            self._skipped.pop(key, None)
        except (Refused, ValueError) as error:  # what was there before stays: one bad record stops nobody
            self._skip(key, str(error))

    def _skip(self, key: bytes, reason: str) -> None:
        self._skipped[key] = reason
        log.warning(
            "table.record_skipped", topic=self._topic, key=key.decode(errors="replace"), message=reason
        )
        if self._on_skip is not None:
            self._on_skip(self._topic)
