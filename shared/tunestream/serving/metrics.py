"""Metrics of the serving updater."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

__all__ = ["DRIFTS", "FAULTS", "IN_SYNC", "UPDATE_SECONDS"]

IN_SYNC: Final = Gauge(
    "tunestream_serving_in_sync", "1 while a server lists the promoted version, else 0.", ["run", "server"]
)
DRIFTS: Final = Counter(
    "tunestream_serving_drifts_total",
    "Times that a server did not list any more what it did before.",
    ["run", "server"],
)
FAULTS: Final = Counter(
    "tunestream_serving_faults_total",
    "Tries to update a server that failed, by reason.",
    ["run", "server", "reason"],
)
UPDATE_SECONDS: Final = Histogram(
    "tunestream_serving_update_seconds",
    "From reading that a version is promoted to the server's listing it.",
    ["run", "server"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 300, 1800),
)
