"""A compacted topic as a dictionary: read to its end before work starts, followed afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from tunestream.config.settings import KafkaSettings
from tunestream.streams.client import make_consumer
from tunestream.streams.metadata import partition_count

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

    Args:
        settings: the broker.
        topic: catalogue name.
        decode: makes a value of (key, body, headers); None leaves the record out, a ValueError
            leaves what was there and is logged.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        decode: Callable[[bytes, bytes, dict[str, bytes]], Value | None],
    ) -> None:
        self._settings = settings
        self._topic = settings.topic(topic)
        self._decode = decode
        self._values: dict[bytes, Value] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._partitions: list[TopicPartition] = []
        self._positions: dict[TopicPartition, int] = {}
        self._moved = asyncio.Condition()
        self._follower: asyncio.Task[None] | None = None
        self._watchers: list[Callable[[], None]] = []

    def watch(self, changed: Callable[[], None]) -> None:
        """Have ``changed`` called after records were read."""
        self._watchers.append(changed)

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
                        self._apply(record.key, record.value, record.headers)
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

    def _apply(
        self, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]
    ) -> None:
        if key is None:
            return
        named = {name: header for name, header in headers if header is not None}
        try:
            decoded = None if value is None else self._decode(key, value, named)
        except ValueError:  # what was there before stays: one bad record stops nobody
            log.exception("table.undecodable", topic=self._topic, key=key.decode(errors="replace"))
            return
        if decoded is None:
            self._values.pop(key, None)
        else:
            self._values[key] = decoded
