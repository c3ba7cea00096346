"""The gauges of partitions: true while they are here, gone when they are not."""

from __future__ import annotations

from prometheus_client import REGISTRY

from tunestream.streams.letters.dead_letters import REASONS
from tunestream.streams.watch.measuring import Measures

SERVICE = "measured"


def sample(metric: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(metric, {"service": SERVICE, **labels})


def test_gauges_go_with_their_partition_and_counters_stay() -> None:
    measures = Measures(SERVICE, ["duplicate"])
    for number in (0, 1):
        measures.begin(number)
        measures.state(number, {"open_turns": 7.0})
    measures.forget(1)
    measures.forget(1)  # again, and one that never was: nothing happens
    measures.forget(9)
    assert sample("tunestream_state", name="open_turns", partition="0") == 7.0
    assert sample("tunestream_state", name="open_turns", partition="1") is None
    assert sample("tunestream_records_total", partition="1") == 0.0


def test_counters_are_there_before_they_count() -> None:
    Measures(SERVICE, ["duplicate", "late_marker"])
    assert all(sample("tunestream_dead_letters_total", reason=reason) == 0.0 for reason in REASONS)
    assert sample("tunestream_domain_events_total", name="late_marker") == 0.0
    assert sample("tunestream_transaction_aborts_total", fault="TimeoutError") == 0.0
