"""Record batches made and damaged byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import RecordMetadata

from tunestream.config.settings import KafkaSettings
from tunestream.streams.broker.client import make_producer
from tunestream.streams.publish import EncodedRecord

__all__ = [
    "BAD_NAME",
    "CODECS",
    "bad_name",
    "batch",
    "marker",
    "places",
    "resealed",
    "send_batch",
    "write_batch",
]

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
BAD_NAME = b"\xff\xfe\xfd\xfc"
_PLACEHOLDER = "zzzz"
_CRC_AT = 17
_ATTRIBUTES_AT = 21
_CONTROL = 0x20


def batch(
    base: int,
    values: Sequence[bytes],
    *,
    codec: str = "none",
    producer: int = -1,
    bad: Sequence[int] = (),
    headers: Sequence[tuple[str, bytes]] = (),
) -> bytes:
    """Return a batch of records with the keys `k0`, `k1`, ....

    Args:
        base: its first offset.
        values: of its records.
        codec: its compression.
        producer: the id of a transactional producer.
        bad: the records that get a header whose name is not UTF-8, by position.
        headers: of each record.
    """
    transactional = producer >= 0
    builder = DefaultRecordBatchBuilder(2, 0, transactional, producer, 0, 0, 1 << 30)
    for number, value in enumerate(values):
        extra = [(_PLACEHOLDER, b"1")] if number in bad else []
        builder.append(number, 1000 + number, b"k%d" % number, value, [*headers, *extra])
    made = bytearray(bytes(builder.build()).replace(_PLACEHOLDER.encode(), BAD_NAME))
    struct.pack_into(">q", made, 0, base)
    return compressed(resealed(made), codec)


def compressed(made: bytes, codec: str) -> bytes:
    """Return a batch with its records compressed."""
    from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode

    encode = {"gzip": gzip_encode, "snappy": snappy_encode, "lz4": lz4_encode, "zstd": zstd_encode}
    if codec == "none":
        return made
    changed = bytearray(made[:61] + encode[codec](made[61:]))
    (attributes,) = struct.unpack_from(">h", changed, _ATTRIBUTES_AT)
    struct.pack_into(">h", changed, _ATTRIBUTES_AT, attributes | CODECS[codec])
    return resealed(changed)


def marker(base: int, producer: int, *, commit: bool) -> bytes:
    """Return the marker that ends a transaction."""
    builder = DefaultRecordBatchBuilder(2, 0, True, producer, 0, 0, 1 << 20)
    builder.append(0, 1000, struct.pack(">HH", 0, int(commit)), b"\0\0\0\0\0\0", [])
    made = bytearray(builder.build())
    struct.pack_into(">q", made, 0, base)
    (attributes,) = struct.unpack_from(">h", made, _ATTRIBUTES_AT)
    struct.pack_into(">h", made, _ATTRIBUTES_AT, attributes | _CONTROL)
    return resealed(made)


def resealed(made: bytearray | bytes) -> bytes:
    """Return a changed batch with its length and checksum set right."""
    changed = bytearray(made)
    struct.pack_into(">i", changed, 8, len(changed) - 12)
    struct.pack_into(">I", changed, _CRC_AT, calc_crc32c(bytes(changed[_ATTRIBUTES_AT:])))
    return bytes(changed)


def bad_name(made: bytes) -> bytes:
    """Return a batch whose placeholder headers got a name that is not UTF-8."""
    return resealed(made.replace(_PLACEHOLDER.encode(), BAD_NAME))


def places(made: bytes) -> range:
    """Return the offsets of a batch."""
    read = DefaultRecordBatch(made)
    return range(read.base_offset, read.next_offset)


async def write_batch(
    kafka: KafkaSettings, records: Sequence[EncodedRecord], *, bad: Sequence[int] = (), codec: str = "none"
) -> int:
    """Write one batch to the topic and partition of its first record; returns its first offset.

    Args:
        kafka: the broker.
        records: what it holds.
        bad: the records that get a header whose name is not UTF-8, by position.
        codec: its compression.
    """
    first = records[0]
    assert first.partition is not None
    async with make_producer(kafka) as producer:
        sent = await send_batch(producer, kafka.topic(first.topic), first.partition, records, bad, codec)
        return int(sent.offset)


async def send_batch(
    producer: AIOKafkaProducer,
    topic: str,
    partition: int,
    records: Sequence[EncodedRecord],
    bad: Sequence[int] = (),
    codec: str = "none",
) -> RecordMetadata:
    """Write one batch with a producer that is open; see :func:`write_batch`."""
    made = producer.create_batch()
    for number, record in enumerate(records):
        extra = [(_PLACEHOLDER, b"1")] if number in bad else []
        made.append(timestamp=None, key=record.key, value=record.value, headers=[*record.headers, *extra])
    made.close()
    build = made._build
    made._build = lambda: bytearray(compressed(bad_name(bytes(build())), codec))
    return await (await producer.send_batch(made, topic, partition=partition))
