"""The comparator of the hops: records copied by aiokafka alone, exactly once, as one would write it.

``python -m tests.bench.bare_copy SERVERS GROUP SOURCE TARGET``; ends on SIGTERM.
"""

from __future__ import annotations

import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

RECORDS_A_TRANSACTION = 2000


async def copy(servers: str, group: str, source: str, target: str) -> None:
    """Copy ``source`` to ``target`` without end."""
    consumer = AIOKafkaConsumer(
        source,
        bootstrap_servers=servers,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=4 << 20,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, transactional_id=f"{group}-0", max_batch_size=1 << 20, acks="all"
    )
    async with consumer, producer:
        while True:
            fetched = await consumer.getmany(timeout_ms=100, max_records=RECORDS_A_TRANSACTION)
            records = [record for part in fetched.values() for record in part]
            if records:
                async with producer.transaction():
                    sent = [await _send(producer, target, record) for record in records]
                    await asyncio.gather(*sent)
                    offsets = {place: part[-1].offset + 1 for place, part in fetched.items()}
                    await producer.send_offsets_to_transaction(offsets, group)


async def _send(producer: AIOKafkaProducer, target: str, record: ConsumerRecord) -> asyncio.Future[object]:
    sent: asyncio.Future[object] = await producer.send(
        target, record.value, record.key, headers=list(record.headers)
    )
    return sent


if __name__ == "__main__":
    asyncio.run(copy(*sys.argv[1:]))
