"""Which partitioner an agent's client uses, as far as a record shows it."""

from __future__ import annotations

from functools import lru_cache
from typing import Final
from zlib import crc32

from tunestream.streams.tasks.encoding import partition_for

__all__ = ["partitioner_of"]

_CACHED_KEYS: Final = 16_384


@lru_cache(maxsize=_CACHED_KEYS)
def partitioner_of(key: bytes, partition: int, partitions: int) -> str | None:
    """Return which partitioner puts ``key`` there, None when both Kafka's and librdkafka's do.

    Two that are seen for one run may put one example into two partitions, where nothing can join its turns.
    """
    ours, theirs = partition_for(key, partitions), crc32(key) % partitions
    if ours == theirs == partition:
        return None
    return {ours: "murmur2", theirs: "crc32"}.get(partition, "other")
