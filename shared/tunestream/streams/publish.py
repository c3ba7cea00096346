"""Writing records from outside the runtime: agents, the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from aiokafka import AIOKafkaProducer

from tunestream.events.cloudevents import Envelope
from tunestream.events.keys import encode_key
from tunestream.streams.broker.client import MissingTopic, make_producer
from tunestream.streams.broker.options import REQUEST_TIMEOUT_MS
from tunestream.streams.broker.unavailable import reaching, why
from tunestream.streams.tasks.encoding import partition_for
from tunestream.topics import topic

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = [
    "DeliveryError",
    "EncodedRecord",
    "EventProducer",
    "EventTooLarge",
    "event_record",
]

Headers = Sequence[tuple[str, bytes | None]]

# What Kafka adds to one record in a batch of its own, rounded up.
_FRAMING_BYTES: Final = 256


class EventTooLarge(ValueError):
    """An event is larger than its topic takes."""


class DeliveryError(Exception):
    """Records were not delivered.

    Attributes:
        count: how many.
        first: the first one's error.
    """

    def __init__(self, count: int, first: BaseException) -> None:
        super().__init__(f"{count} records were not delivered; the first: {why(first)}")
        self.count = count
        self.first = first


@dataclass(frozen=True, slots=True)
class EncodedRecord:
    """One record as it is written: a service's ``Outbound`` has a model as its body, this has bytes.

    Attributes:
        topic: catalogue name, without prefix.
        key: encoded.
        value: the body's bytes, None for a tombstone.
        headers: of the record.
        partition: where it must lie; None for the key's own (murmur2).
        everywhere: a copy goes to every partition.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int | None = None
    everywhere: bool = False


def event_record(name: str, key: Iterable[str], payload: bytes, envelope: Envelope) -> EncodedRecord:
    """Return the record of an event.

    Raises:
        EventTooLarge: when the topic ``name`` would refuse it.
        ValueError: when a part of the key is empty.
    """
    record = EncodedRecord(name, encode_key(*key), payload, envelope.to_headers())
    headers = sum(len(header) + len(value or b"") for header, value in record.headers)
    size = len(payload) + len(record.key or b"") + headers + _FRAMING_BYTES
    limit = topic(name).max_message_bytes
    if size > limit:
        raise EventTooLarge(
            f"{envelope.type} {envelope.id} takes {size:,} bytes; topic {name} takes {limit:,}: shorten it"
        )
    return record


class EventProducer:
    """An idempotent producer with a bounded buffer.

    Entering it raises ``BrokerUnavailable`` within 20 s when there is no broker.

    ``send`` waits for room in the buffer, not for the delivery. What could not be delivered is raised as
    :class:`DeliveryError` by the next ``send`` or ``flush``, and at the end.

    Args:
        settings: the broker.
        max_in_flight: records that may be on their way; more make ``send`` wait.
        linger_ms: how long the producer waits for more records before it sends a batch.
        delivery_timeout: seconds that a record may take to be delivered, that ``send`` waits for room and
            that ``flush`` waits for the deliveries. A broker that restarts is away for less than the default.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        max_in_flight: int = 5000,
        linger_ms: int = 5,
        delivery_timeout: float = 120.0,
    ) -> None:
        self._settings = settings
        self._linger_ms = linger_ms
        self._timeout = delivery_timeout
        self._room = asyncio.Semaphore(max_in_flight)
        self._pending: set[asyncio.Future[object]] = set()
        self._failures: list[BaseException] = []
        self._counts: dict[str, int] = {}
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> Self:
        # The client drops a batch that had no leader for as long as one request may take.
        patience = max(REQUEST_TIMEOUT_MS, round(self._timeout * 1000))
        producer = make_producer(self._settings, linger_ms=self._linger_ms, request_timeout_ms=patience)
        try:
            async with reaching(self._settings):
                await producer.start()
        except BaseException:
            await producer.stop()
            raise
        self._producer = producer
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._producer is not None
        try:
            if not isinstance(error, asyncio.CancelledError):
                await self.flush()
        finally:
            await self._producer.stop()

    async def send(self, record: EncodedRecord) -> None:
        """Put a record into the buffer, waiting for room.

        Raises:
            DeliveryError: when earlier records were not delivered.
            MissingTopic: when the topic does not exist.
            TimeoutError: when the buffer stayed full for ``delivery_timeout``.
        """
        if record.everywhere:
            for partition in range(await self.partitions(record.topic)):
                await self._send(record, partition)
        elif record.partition is None and record.key is not None:
            await self._send(record, await self.partition_of(record.topic, record.key))
        else:
            await self._send(record, record.partition)

    async def partition_of(self, name: str, key: bytes) -> int:
        """Return the partition of the topic ``name`` to which records of a key are sent.

        Raises:
            MissingTopic: when the topic does not exist.
        """
        return partition_for(key, await self.partitions(name))

    async def partitions(self, name: str) -> int:
        """Return how many partitions the topic ``name`` has; asks once, the client would wait in silence.

        Raises:
            MissingTopic: when the topic does not exist.
        """
        assert self._producer is not None, "use it as an async context manager"
        if name not in self._counts:
            cluster = await self._producer.client.fetch_all_metadata()
            found = cluster.partitions_for_topic(self._settings.topic(name))
            if not found:
                raise MissingTopic(self._settings.topic(name))
            self._counts[name] = len(found)
        return self._counts[name]

    async def _send(self, record: EncodedRecord, partition: int | None) -> None:
        self._raise_failures()
        await self.partitions(record.topic)
        assert self._producer is not None
        name, headers = self._settings.topic(record.topic), list(record.headers)
        await self._take_room()
        try:
            sent = await self._producer.send(
                name, record.value, record.key, partition=partition, headers=headers
            )
        except BaseException:
            self._room.release()
            raise
        self._pending.add(sent)
        sent.add_done_callback(self._settle)

    async def flush(self) -> None:
        """Wait until everything sent so far is delivered.

        Raises:
            DeliveryError: when records were not delivered.
        """
        if self._pending:
            _, late = await asyncio.wait(self._pending, timeout=self._timeout)
            if late:
                reason = TimeoutError(f"not confirmed by the broker within {self._timeout:.0f} s")
                self._failures.extend([reason] * len(late))
        self._raise_failures()

    async def _take_room(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._room.acquire()
        except TimeoutError:
            raise TimeoutError(
                f"the buffer stayed full for {self._timeout:.0f} s; is the broker up?"
            ) from None

    def _settle(self, sent: asyncio.Future[object]) -> None:
        self._room.release()
        self._pending.discard(sent)
        if not sent.cancelled() and (error := sent.exception()) is not None:
            self._failures.append(error)

    def _raise_failures(self) -> None:
        if self._failures:
            failures, self._failures = self._failures, []
            raise DeliveryError(len(failures), failures[0])
