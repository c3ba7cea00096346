"""Records that are written together: readers of committed records see all of them or none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from tunestream.streams.broker.client import make_consumer, make_transactional_producer
from tunestream.streams.broker.deadlines import STEP_DEADLINE, deadline
from tunestream.streams.broker.unavailable import reaching
from tunestream.streams.publish import EncodedRecord

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = ["await_readable", "transaction", "transactional_producer", "write_together"]

# A broker that was killed between a commit and its markers writes them up to half a minute after its start.
_READABLE_SECONDS: Final = 60.0
# The first transaction of a broker's life has it make a topic of its own.
_TRANSACTION_START_SECONDS: Final = 30.0
# For an abort, and for the stop of a producer.
_END_SECONDS: Final = 10.0
# Between two looks; markers follow within milliseconds.
_MARKER_SECONDS: Final = 0.01


@asynccontextmanager
async def transactional_producer(
    settings: KafkaSettings, name: str, *, start_seconds: float = _TRANSACTION_START_SECONDS, **options: Any
) -> AsyncIterator[AIOKafkaProducer]:
    """Start the one producer that may write under a transactional id, and stop it, also after a fault.

    Args:
        settings: the broker.
        name: the transactional id, without the deployment's prefix.
        start_seconds: the start ends the open transaction of the producer before.
        **options: of :func:`.make_transactional_producer`.

    Raises:
        BrokerUnavailable: when no broker answers.
    """
    producer = make_transactional_producer(settings, settings.topic(name), **options)
    try:
        async with reaching(settings, start_seconds):
            await producer.start()
        yield producer
    finally:
        # One that was fenced raises that again, or waits for what it will never deliver.
        with suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await producer.stop()


@asynccontextmanager
async def transaction(producer: AIOKafkaProducer, seconds: float = STEP_DEADLINE) -> AsyncIterator[None]:
    """Commit what is written inside, or abort it: a client that was fenced may give neither an answer.

    Raises:
        TimeoutError: when it took longer than ``seconds``, or its end longer still.
    """
    async with (
        deadline(seconds + _END_SECONDS, "ending a transaction"),
        producer.transaction(),
        deadline(seconds, "writing a transaction"),
    ):
        yield


async def write_together(
    settings: KafkaSettings, transactional_id: str, records: Sequence[EncodedRecord]
) -> None:
    """Write records in one transaction, and return when they can be read.

    Readers of committed records see all or none.

    Raises:
        TimeoutError: when they are not written within a minute, or cannot be read within one, since another
            transaction is open.
        BrokerUnavailable: when no broker answers.
    """
    ends: dict[TopicPartition, int] = {}
    async with transactional_producer(settings, transactional_id) as producer, transaction(producer):
        for record in records:
            written = await producer.send_and_wait(
                settings.topic(record.topic),
                record.value,
                record.key,
                partition=record.partition,
                headers=list(record.headers),
            )
            ends[written.topic_partition] = written.offset + 1
    await await_readable(settings, ends)


async def await_readable(settings: KafkaSettings, ends: Mapping[TopicPartition, int]) -> None:
    """Wait until committed records can be read: the broker writes markers after it confirms a commit.

    Args:
        settings: the broker.
        ends: the offset behind the last record, by partition.

    Raises:
        TimeoutError: when they cannot be read within a minute, since another transaction is open.
    """
    if not ends:
        return
    consumer = make_consumer(settings)
    try:
        await consumer.start()
        async with asyncio.timeout(_READABLE_SECONDS):
            while True:
                readable = await consumer.end_offsets(list(ends))
                if all(readable[at] >= end for at, end in ends.items()):
                    return
                await asyncio.sleep(_MARKER_SECONDS)
    except TimeoutError:
        raise TimeoutError(
            f"written, but not readable within {_READABLE_SECONDS:.0f} s: another transaction is open on "
            f"{', '.join(sorted(at.topic for at in ends))}"
        ) from None
    finally:
        await consumer.stop()
