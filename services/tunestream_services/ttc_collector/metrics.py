"""Metrics of the collector alone."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter

__all__ = ["PARTITIONERS"]

PARTITIONERS: Final = Counter(
    "tunestream_events_by_partitioner_total",
    "Events by the partitioner that chose their partition, murmur2, crc32 or other, where it can be seen.",
    ["run", "partitioner"],
)
