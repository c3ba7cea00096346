"""The metrics of a service's partitions, for Prometheus."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

__all__ = [
    "ABORTS",
    "DEAD_LETTERS",
    "DOMAIN_EVENTS",
    "GAPS",
    "INPUT_MISSING",
    "LAG",
    "MOVES",
    "POLL_FAILURES",
    "RECORDS",
    "REPLICA_CONFLICTS",
    "RESTORED",
    "STALLED",
    "STATE",
    "TABLE_SKIPPED",
    "TRANSACTION_SECONDS",
    "UNREADY",
]

RECORDS: Final = Counter(
    "tunestream_records_total", "Input records whose transaction was committed.", ["service", "partition"]
)
LAG: Final = Gauge(
    "tunestream_consumer_lag_records", "Input records not yet handled.", ["service", "topic", "partition"]
)
INPUT_MISSING: Final = Gauge(
    "tunestream_input_missing", "1 for an input topic that is not on the broker.", ["service", "topic"]
)
STALLED: Final = Gauge(
    "tunestream_partition_stalled",
    "1 for an assigned partition that stands still, by the watchdog; /health/ready has the reason.",
    ["service", "topic", "partition"],
)
TRANSACTION_SECONDS: Final = Histogram(
    "tunestream_transaction_seconds",
    "From the start of a transaction to its commit.",
    ["service"],
    buckets=(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 5, 20),
)
ABORTS: Final = Counter(
    "tunestream_transaction_aborts_total",
    "Transactions that were given up, by the fault's class.",
    ["service", "fault"],
)
DEAD_LETTERS: Final = Counter(
    "tunestream_dead_letters_total", "Refused records, by reason code.", ["service", "reason"]
)
RESTORED: Final = Counter(
    "tunestream_restored_records_total", "Changelog records read to restore state.", ["service", "partition"]
)
GAPS: Final = Counter(
    "tunestream_gap_records_total",
    "Offsets of inputs that retention deleted before they were read.",
    ["service", "topic", "partition"],
)
MOVES: Final = Counter(
    "tunestream_position_moves_total",
    "Openings of inputs that did not go on at their group's offset, by reason: missing, from_state or moved.",
    ["service", "topic", "partition", "reason"],
)
POLL_FAILURES: Final = Counter(
    "tunestream_poll_failures_total", "Polls that raised; every position was put back.", ["service"]
)
REPLICA_CONFLICTS: Final = Counter(
    "tunestream_replica_conflicts_total",
    "Times that another process with this replica's number was found.",
    ["service"],
)
UNREADY: Final = Gauge(
    "tunestream_unready_reasons",
    "Reasons that /health/ready has; 0 when a service is ready.",
    ["service"],
)
TABLE_SKIPPED: Final = Counter(
    "tunestream_table_records_skipped_total",
    "Records of tables that could not be read or whose type is newer; their keys keep what they had.",
    ["topic"],
)
STATE: Final = Gauge(
    "tunestream_state", "What a partition's state looks like, by name.", ["service", "partition", "name"]
)
DOMAIN_EVENTS: Final = Counter(
    "tunestream_domain_events_total", "What the domain counted, by name.", ["service", "name"]
)
