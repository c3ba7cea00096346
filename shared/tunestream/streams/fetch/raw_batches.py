"""Record batches as the broker sent them: byte by byte, where the client gives up.

The format is Kafka's message format v2; the client's own classes read what is whole.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch

from tunestream.streams.fetch.codecs import BatchDamaged, decompress

__all__ = ["RawBatch", "RawRecord", "raw_batches"]

_LENGTH: Final = struct.Struct(">i")
_OFFSET: Final = struct.Struct(">q")
_ATTRIBUTES: Final = struct.Struct(">h")
_COUNT: Final = struct.Struct(">i")
# Where the fields of a batch's header are, bytes.
_LENGTH_AT: Final = 8
_OVERHEAD: Final = 12
_MAGIC_AT: Final = 16
_ATTRIBUTES_AT: Final = 21
_COUNT_AT: Final = 57
_HEADER: Final = 61
_CODEC_MASK: Final = 0x07
_LOG_APPEND_TIME: Final = 1
_LONGEST_VARINT: Final = 10


@dataclass(frozen=True, slots=True)
class RawRecord:
    """One record of a batch that the client could not read as a whole.

    Attributes:
        offset: of the record.
        timestamp: ms.
        key: as it came.
        value: as it came.
        headers: as they came; None when a name is not UTF-8.
        raw: the whole record as it lies in the batch, its length in front.
        fault: why its headers cannot be read, empty when they can.
    """

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] | None
    raw: bytes
    fault: str = ""


class RawBatch:
    """One batch of a fetch.

    Args:
        data: the whole batch.
        following: the offset at which the next batch of the fetch begins, None for the last one.
    """

    def __init__(self, data: memoryview, following: int | None) -> None:
        self.data = data
        self.following = following
        self.magic: int = data[_MAGIC_AT] if len(data) > _MAGIC_AT else 2
        self._plain: bytes | memoryview | None = None
        if self.magic >= 2 and len(data) < _HEADER:
            raise BatchDamaged(f"a batch of {len(data)} bytes has no whole header")
        #: The client's view of the header.
        self.batch: Any = DefaultRecordBatch(data) if self.magic >= 2 else LegacyRecordBatch(data, self.magic)

    def end(self, highwater: int) -> int:
        """Return the offset after the batch.

        Of a damaged batch the header is not trusted further than what lies around it.

        Args:
            highwater: the end of the partition when it was fetched.

        Raises:
            BatchDamaged: when the batch's end cannot be known.
        """
        first = self.first_offset
        if self.following is not None and first < self.following <= highwater:
            return self.following
        end = int(self.batch.next_offset)
        if not first < end <= highwater or (self.magic >= 2 and self._count > end - first):
            raise BatchDamaged(f"the batch at offset {first} is damaged and its end cannot be known")
        return end

    @property
    def first_offset(self) -> int:
        """The offset at which the batch begins."""
        return int(_OFFSET.unpack_from(self.data)[0])

    @property
    def _count(self) -> int:
        return int(_COUNT.unpack_from(self.data, _COUNT_AT)[0])

    @property
    def size(self) -> int:
        """How many bytes it takes as far as it was read: decompressed, if that was done."""
        return len(self.data if self._plain is None else self._plain)

    def check(self) -> None:
        """Check the batch's checksum.

        Raises:
            BatchDamaged: when it is wrong.
        """
        if not self.batch.validate_crc():
            raise BatchDamaged("its checksum is wrong")

    def readable(self) -> Any:
        """Return the client's iterable of the batch's records, decompressed.

        Raises:
            BatchDamaged: when the batch cannot be decompressed.
        """
        codec = self._codec
        if self.magic < 2 or not codec:
            return self.batch
        head = bytearray(self.data[:_HEADER])
        (attributes,) = _ATTRIBUTES.unpack_from(head, _ATTRIBUTES_AT)
        _ATTRIBUTES.pack_into(head, _ATTRIBUTES_AT, attributes & ~_CODEC_MASK)
        return DefaultRecordBatch(b"".join((head, self._decompressed())))

    @property
    def _codec(self) -> int:
        return int(self.batch.attributes) & _CODEC_MASK if self.magic >= 2 else 0

    def _decompressed(self) -> bytes | memoryview:
        if self._plain is None:
            body = self.data[_HEADER:]
            self._plain = decompress(self._codec, body) if self._codec else body
        return self._plain

    def records(self) -> Iterator[RawRecord]:
        """Yield the records one by one.

        Raises:
            BatchDamaged: where the bytes stop being records.
        """
        if self.magic < 2:
            raise BatchDamaged("a record of an old message format cannot be read")
        cursor = _Cursor(self._decompressed())
        for _ in range(self._count):
            start = cursor.position
            length = cursor.varint()
            end = cursor.position + length
            if length < 0 or end > len(cursor.data):
                raise BatchDamaged(f"a record's length is {length}, which is more than the batch holds")
            yield self._record(cursor, start, end)
            cursor.position = end

    def _record(self, cursor: _Cursor, start: int, end: int) -> RawRecord:
        cursor.take(1)
        delta, offset = cursor.varint(), self.first_offset + cursor.varint()
        appended = self.batch.timestamp_type == _LOG_APPEND_TIME
        timestamp = self.batch.max_timestamp if appended else self.batch.first_timestamp + delta
        key, value = cursor.nullable(), cursor.nullable()
        headers: list[tuple[str, bytes | None]] | None = []
        fault = ""
        for number in range(cursor.varint()):
            name = cursor.take(cursor.varint())
            content = cursor.nullable()
            try:
                if headers is not None:
                    headers.append((name.decode(), content))
            except UnicodeDecodeError:
                headers, fault = None, f"the name of its header {number + 1} is not UTF-8: {name[:40]!r}"
        if cursor.position != end:
            raise BatchDamaged(f"a record of {end - start} bytes does not end where it should")
        return RawRecord(offset, timestamp, key, value, headers, bytes(cursor.data[start:end]), fault)


class _Cursor:
    """Reads Kafka's variable-length numbers and byte strings."""

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = memoryview(data)
        self.position = 0

    def varint(self) -> int:
        """Read a zigzag-encoded number."""
        found = 0
        for index in range(_LONGEST_VARINT):
            (byte,) = self.take(1)
            found |= (byte & 0x7F) << (7 * index)
            if not byte & 0x80:
                return (found >> 1) ^ -(found & 1)
        raise BatchDamaged("a number in it has no end")

    def take(self, size: int) -> bytes:
        """Read ``size`` bytes."""
        end = self.position + size
        if size < 0 or end > len(self.data):
            raise BatchDamaged(f"{size} bytes are announced, {len(self.data) - self.position} are there")
        self.position, start = end, self.position
        return bytes(self.data[start:end])

    def nullable(self) -> bytes | None:
        """Read a byte string that may be null."""
        size = self.varint()
        return None if size < 0 else self.take(size)


def raw_batches(data: bytes) -> Iterator[RawBatch]:
    """Yield the whole batches of a fetch of one partition; a fetch may end within one.

    Raises:
        BatchDamaged: for a batch that is shorter than its header.
    """
    pieces = list(_pieces(memoryview(data)))
    offsets = [int(_OFFSET.unpack_from(piece)[0]) for piece in pieces]
    for piece, following in zip(pieces, [*offsets[1:], None], strict=True):
        yield RawBatch(piece, following)


def _pieces(data: memoryview) -> Iterator[memoryview]:
    position = 0
    while len(data) - position >= _OVERHEAD:
        (length,) = _LENGTH.unpack_from(data, position + _LENGTH_AT)
        end = position + _OVERHEAD + length
        if length <= 0 or end > len(data):
            return
        yield data[position:end]
        position = end
