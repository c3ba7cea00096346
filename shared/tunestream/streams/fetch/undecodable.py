"""Records that the client cannot decode: delivered in their place, in raw bytes, instead of an exception.

The client decodes a fetch while it is polled and raises at the first record that it cannot read: then
neither that record nor what lies before and behind it is ever delivered. Here the batches of each fetch are
walked instead. A record whose header names are not UTF-8 costs itself, a damaged batch costs the batch. What
the client does otherwise is kept: aborted transactions and control batches are passed over.

The seam is between the client's ``Fetcher``, its ``PartitionRecords`` and the bytes that it gives to
``MemoryRecords``; tests/unit/streams/test_undecodable.py checks that it is where it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.protocol.fetch import FetchRequest

from tunestream.domain.effects import Refused
from tunestream.streams.fetch.codecs import BatchDamaged
from tunestream.streams.fetch.raw_batches import RawBatch, RawRecord, raw_batches

__all__ = ["Undecodable", "deliver_undecodable"]

_NO_TIME: Final = -1
_OF_CREATION: Final = 0
_VERSION_2: Final = 2
# What a poll takes of one partition's fetch, decompressed; the rest is fetched again. A fetch of 4 MiB may
# hold hundreds of batches that are within their own limit, and gigabytes together.
_AT_ONCE: Final = 16 << 20


@dataclass
class Undecodable(ConsumerRecord):  # type: ignore[misc]
    """Stands in a poll's records for bytes that are no record; :func:`.decode` refuses it.

    ``offset`` is the last one that it stands for, so that the offset after it is the next one to read;
    ``value`` holds the raw bytes; it has no headers.

    Attributes:
        first_offset: the first offset that it stands for.
        refusal: why it cannot be read.
    """

    first_offset: int = 0
    refusal: Refused = Refused("undecodable.batch", "")  # noqa: RUF009 # never mutated

    @classmethod
    def of_record(cls, record: ConsumerRecord, raw: bytes, fault: str) -> Undecodable:
        """Return what stands for one record."""
        fields = vars(record) | {"value": raw, "serialized_value_size": len(raw), "headers": ()}
        message = f"{fault}; the record's bytes are the value of this dead letter"
        return cls(**fields, first_offset=record.offset, refusal=Refused("undecodable.header", message))

    @classmethod
    def of_batch(cls, place: TopicPartition, offsets: range, raw: bytes, fault: str) -> Undecodable:
        """Return what stands for ``offsets``, the unread ones of a damaged batch."""
        message = (
            f"the batch of offsets {offsets[0]} to {offsets[-1]} cannot be read: {fault}; its bytes are the "
            "value of this dead letter"
        )
        return cls(
            topic=place.topic,
            partition=place.partition,
            offset=offsets[-1],
            timestamp=_NO_TIME,
            timestamp_type=_OF_CREATION,
            key=None,
            value=raw,
            checksum=None,
            serialized_key_size=-1,
            serialized_value_size=len(raw),
            headers=(),
            first_offset=offsets[0],
            refusal=Refused("undecodable.batch", message),
        )


def deliver_undecodable(fetcher: Any) -> None:
    """Have a consumer's fetcher deliver :class:`Undecodable` records instead of raising.

    Args:
        fetcher: the client's, before it fetched anything.
    """
    _Tap(fetcher)


class _Tap:
    """Stands between a fetcher and its client, and sees the bytes of each fetch.

    Nothing is awaited between the end of :meth:`send` and the end of the fetcher's own method, so the bytes
    kept here are those of the results that it made last.
    """

    def __init__(self, fetcher: Any) -> None:
        self._fetcher = fetcher
        self._client = fetcher._client  # noqa: SLF001 # the seam
        self._process = fetcher._proc_fetch_request  # noqa: SLF001
        self._fetched: dict[TopicPartition, tuple[bytes, int]] = {}
        fetcher._client = self  # noqa: SLF001
        fetcher._proc_fetch_request = self.process  # noqa: SLF001

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node: int, request: Any) -> Any:
        """Send a request and keep the bytes of a fetch."""
        response = await self._client.send(node, request)
        if isinstance(request, FetchRequest):
            self._fetched = {
                TopicPartition(topic, partition): (rest[-1], highwater)
                for topic, partitions in response.topics
                for partition, _error, highwater, *rest in partitions
            }
        return response

    async def process(self, assignment: Any, node: int, request: Any) -> bool:
        """Fetch, and have the results read by :class:`_WalkedRecords`."""
        has_new = bool(await self._process(assignment, node, request))
        fetched, self._fetched = self._fetched, {}
        for place, (raw, highwater) in fetched.items():
            result = self._fetcher._records.get(place)  # noqa: SLF001
            if type(result) is FetchResult and type(result._partition_records) is PartitionRecords:  # noqa: SLF001
                result._partition_records = _WalkedRecords(result._partition_records, raw, highwater)  # noqa: SLF001
        return has_new


class _WalkedRecords(PartitionRecords):  # type: ignore[misc]
    """The records of one partition's fetch, what cannot be decoded included.

    Args:
        client_view: the client's own, of which nothing was read.
        raw: the fetch.
        highwater: the partition's end when it was fetched.
    """

    next_fetch_offset: int

    def __init__(self, client_view: PartitionRecords, raw: bytes, highwater: int) -> None:
        self._raw = raw
        self._highwater = highwater
        self._begun_at = client_view.next_fetch_offset
        super().__init__(
            client_view._tp,  # noqa: SLF001
            None,
            client_view._aborted_transactions,  # noqa: SLF001
            client_view.next_fetch_offset,
            client_view._key_deserializer,  # noqa: SLF001
            client_view._value_deserializer,  # noqa: SLF001
            client_view._check_crcs,  # noqa: SLF001
            client_view._isolation_level,  # noqa: SLF001
        )

    def _unpack_records(self) -> Iterator[ConsumerRecord]:
        taken = 0
        for batch in raw_batches(self._raw):
            if taken >= _AT_ONCE:
                return
            if not self._passed_over(batch.batch):
                yield from self._records_of(batch)
                taken += batch.size
            # A batch keeps its last offset when compaction removed its last record.
            self.next_fetch_offset = max(self.next_fetch_offset, batch.end(self._highwater))

    def _passed_over(self, batch: Any) -> bool:
        """Return whether a batch holds nothing to deliver: a transaction's marker, or what was aborted."""
        if self._isolation_level == READ_COMMITTED and batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch:
                # Either marker ends what its producer had open; so a damaged one takes nothing with it.
                self._aborted_producers.discard(batch.producer_id)
            elif batch.is_transactional and batch.producer_id in self._aborted_producers:
                return True
        # A damaged batch may only look like a marker: one bit makes the difference.
        return bool(batch.is_control_batch and batch.validate_crc())

    def _records_of(self, batch: RawBatch) -> Iterator[ConsumerRecord]:
        place = self._tp
        try:
            if self._check_crcs:
                batch.check()
            follows = _Order(batch)
            for record in batch.readable():
                follows.check(record.offset)
                if record.offset >= self.next_fetch_offset:
                    delivered = self._consumer_record(place, record)
                    self.next_fetch_offset = record.offset + 1
                    yield delivered
        except BatchDamaged as error:
            yield from self._lost(batch, str(error))
        except Exception:  # noqa: BLE001 # what the client cannot read is read again, byte by byte
            yield from self._walked(batch)

    def _walked(self, batch: RawBatch) -> Iterator[ConsumerRecord]:
        try:
            follows = _Order(batch)
            for record in batch.records():
                follows.check(record.offset)
                if record.offset >= self.next_fetch_offset:
                    self.next_fetch_offset = record.offset + 1
                    yield self._as_read(record, batch)
        except BatchDamaged as error:
            yield from self._lost(batch, str(error))

    def _as_read(self, record: RawRecord, batch: RawBatch) -> ConsumerRecord:
        known = replace(record, headers=record.headers or [])
        read = ConsumerRecord(
            self._tp.topic,
            self._tp.partition,
            known.offset,
            known.timestamp,
            batch.batch.timestamp_type,
            known.key,
            known.value,
            None,
            -1 if known.key is None else len(known.key),
            -1 if known.value is None else len(known.value),
            tuple(known.headers or ()),
        )
        return Undecodable.of_record(read, record.raw, record.fault) if record.fault else read

    def _lost(self, batch: RawBatch, fault: str) -> Iterator[Undecodable]:
        """Yield what stands for the records of a batch that were not read."""
        end = batch.end(self._highwater)
        if end > self._begun_at:
            # The last offset at least: damage may have given it to a record before the one that is lost.
            start = min(max(self.next_fetch_offset, batch.first_offset), end - 1)
            self.next_fetch_offset = end
            yield Undecodable.of_batch(self._tp, range(start, end), bytes(batch.data), fault)


class _Order:
    """Sees to it that the offsets of a batch's records rise and stay within the batch."""

    def __init__(self, batch: RawBatch) -> None:
        self._last = batch.first_offset - 1 if batch.magic >= _VERSION_2 else -1
        self._end = int(batch.batch.next_offset)

    def check(self, offset: int) -> None:
        """Take the next record's offset.

        Raises:
            BatchDamaged: when it cannot be right.
        """
        if not self._last < offset < self._end:
            raise BatchDamaged(f"a record of it has the offset {offset}")
        self._last = offset
