"""The records of a fetch, what cannot be decoded included."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from aiokafka import ConsumerRecord
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords

from tunestream.streams.fetch.codecs import BatchDamaged
from tunestream.streams.fetch.raw_batches import RawBatch, RawRecord, raw_batches
from tunestream.streams.fetch.undecodable import Undecodable

__all__ = ["FetchedRecords", "WalkedRecords"]

_VERSION_2: Final = 2
# What a poll takes of one partition's fetch, decompressed; the rest is fetched again. A fetch of 2 MiB may
# hold hundreds of batches that are within their own limit, and gigabytes together.
_AT_ONCE: Final = 16 << 20


class FetchedRecords:
    """The records of one partition's fetch, as the client's result reads them.

    In the client's own class the records and the generator that reads them hold each other. A fetch that is
    dropped half read, since its partition was paused or sought, would stay, megabytes of it, until the
    garbage collector looks for cycles, which it rarely does here.

    Args:
        records: of which nothing was read.
    """

    def __init__(self, records: PartitionRecords) -> None:
        self._records = records
        self._iterator: Iterator[ConsumerRecord] = records._records_iterator  # noqa: SLF001
        records._records_iterator = None  # noqa: SLF001

    @property
    def next_fetch_offset(self) -> int:
        """Where the next fetch begins."""
        return int(self._records.next_fetch_offset)

    def __iter__(self) -> Iterator[ConsumerRecord]:
        return self._iterator

    def __next__(self) -> ConsumerRecord:
        return next(self._iterator)


class WalkedRecords(PartitionRecords):  # type: ignore[misc]
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
        # The client's records and the generator that never reads them hold each other, and the fetch.
        client_view._records_iterator = None  # noqa: SLF001
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
        try:
            if self._check_crcs:
                batch.check()
            yield from self._delivered(batch)
        except BatchDamaged as error:
            yield from self._lost(batch, str(error))
        except Exception:  # noqa: BLE001 # what the client cannot read is read again, byte by byte
            yield from self._walked(batch)

    def _delivered(self, batch: RawBatch) -> Iterator[ConsumerRecord]:
        """Yield the records of a batch as the client reads them, without its call for each of them."""
        topic, partition = self._tp
        last, end = _bounds(batch)
        for record in batch.readable():
            offset, key, value = record.offset, record.key, record.value
            if not last < offset < end:
                raise _out_of_order(offset)
            last = offset
            if offset >= self.next_fetch_offset:
                delivered = ConsumerRecord(
                    topic,
                    partition,
                    offset,
                    record.timestamp,
                    record.timestamp_type,
                    key,
                    value,
                    record.checksum,
                    -1 if key is None else len(key),
                    -1 if value is None else len(value),
                    tuple(record.headers),
                )
                self.next_fetch_offset = offset + 1
                yield delivered

    def _walked(self, batch: RawBatch) -> Iterator[ConsumerRecord]:
        try:
            last, end = _bounds(batch)
            for record in batch.records():
                if not last < record.offset < end:
                    raise _out_of_order(record.offset)
                last = record.offset
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


def _bounds(batch: RawBatch) -> tuple[int, int]:
    """Return the offsets between which those of a batch's records rise."""
    return batch.first_offset - 1 if batch.magic >= _VERSION_2 else -1, int(batch.batch.next_offset)


def _out_of_order(offset: int) -> BatchDamaged:
    return BatchDamaged(f"a record of it has the offset {offset}")
