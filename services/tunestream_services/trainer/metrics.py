"""Metrics of the trainer alone."""

from __future__ import annotations

from typing import Final

from prometheus_client import Histogram

__all__ = ["POLICY_LAG"]

POLICY_LAG: Final = Histogram(
    "tunestream_policy_lag_versions",
    "Versions between a job's oldest candidates and what it would train from, when it would start.",
    ["outcome"],
    buckets=(0, 1, 2, 3, 4, 6, 8, 12, 16, 32, 64),
)
for _outcome in ("started", "stale"):  # 0 rather than nothing, before the first job
    POLICY_LAG.labels(_outcome)
