"""Decompressing a record batch, within a limit.

A topic's ``max.message.bytes`` limits the *compressed* batch: 4 MiB of zstd may become many gigabytes. The
client decompresses all that comes, so batches are decompressed here before it sees them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import cramjam

__all__ = ["CODECS", "MAX_BATCH_BYTES", "BatchDamaged", "decompress"]

# The largest record of any topic is 8 MiB; a batch that holds eight times that is no batch of an agent.
MAX_BATCH_BYTES: Final = 64 << 20
# By number in a batch's attributes.
CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")
# What most batches of JSON need, so that one try is enough; a failed try costs as much as a good one.
_FIRST_RATIO: Final = 16
_GROWTH: Final = 8
_SMALLEST: Final = 1 << 16
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER: Final = 16
_GZIP: Final = 31


class BatchDamaged(Exception):
    """A record batch whose bytes cannot be read; the message gives the reason."""


class _TooMuch(Exception):
    """The limit is reached."""


def decompress(codec: int, data: memoryview, limit: int = MAX_BATCH_BYTES) -> bytes | memoryview:
    """Return the records of a compressed batch.

    Args:
        codec: the number of the codec in the batch's attributes.
        data: what follows the batch's header.
        limit: bytes that the records may take.

    Raises:
        BatchDamaged: the codec is unknown, the bytes are damaged, or the records take more than ``limit``.
    """
    read = _DECODERS.get(codec)
    if read is None:
        raise BatchDamaged(f"its codec has the number {codec}, which Kafka does not have")
    try:
        return read(data, limit)
    except _TooMuch:
        raise BatchDamaged(
            f"its records take more than {limit >> 20} MiB when decompressed; send smaller batches"
        ) from None
    except (cramjam.DecompressionError, zlib.error, struct.error, OSError, ValueError) as error:
        raise BatchDamaged(f"its {CODECS[codec]} data cannot be decompressed ({error})") from error


def _gzip(data: memoryview, limit: int) -> bytes:
    parts: list[bytes] = []
    size, rest = 0, bytes(data)
    while rest:
        member = zlib.decompressobj(_GZIP)
        parts.append(member.decompress(rest, limit - size + 1))
        size += len(parts[-1])
        _check_size(size, limit)
        if not member.eof:
            raise BatchDamaged("its gzip data ends too early")
        rest = member.unused_data.lstrip(b"\0")
    return b"".join(parts)


def _snappy(data: memoryview, limit: int) -> bytes:
    if bytes(data[: len(_XERIAL)]) != _XERIAL:
        return _snappy_block(bytes(data), limit)
    parts: list[bytes] = []
    size, position = 0, _XERIAL_HEADER
    while position < len(data):
        (length,) = struct.unpack_from(">i", data, position)
        block = data[position + 4 : position + 4 + length]
        if length < 0 or len(block) != length:
            raise BatchDamaged("its snappy data ends too early")
        parts.append(_snappy_block(bytes(block), limit - size))
        size += len(parts[-1])
        position += 4 + length
    return b"".join(parts)


def _snappy_block(data: bytes, limit: int) -> bytes:
    _check_size(cramjam.snappy.decompress_raw_len(data), limit)
    return bytes(cramjam.snappy.decompress_raw(data))


def _frame(into: Callable[[memoryview, bytearray], int]) -> Callable[[memoryview, int], memoryview]:
    """Return the reader of a codec whose frames do not state their size: it tries larger buffers."""

    def read(data: memoryview, limit: int) -> memoryview:
        size = min(limit, max(_SMALLEST, _FIRST_RATIO * len(data)))
        while True:
            buffer = bytearray(size)
            try:
                return memoryview(buffer)[: into(data, buffer)]
            except cramjam.DecompressionError as error:
                if "whole buffer" not in str(error):
                    raise
                _check_size(size + 1, limit)
                size = min(limit, size * _GROWTH)

    return read


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise _TooMuch


_cramjam: Any = cramjam
_DECODERS: Final[Mapping[int, Callable[[memoryview, int], bytes | memoryview]]] = {
    1: _gzip,
    2: _snappy,
    3: _frame(_cramjam.lz4.decompress_into),
    4: _frame(_cramjam.zstd.decompress_into),
}
