"""What a partition logs of the records that it refuses."""

from __future__ import annotations

from typing import Any

from aiokafka import ConsumerRecord

from tests.helpers.inbound import consumed
from tunestream.domain.effects import Refused
from tunestream.streams.watch.refusals import RefusalLog


class Log:
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def warning(self, event: str, **values: Any) -> None:
        self.lines.append({"event": event, **values})


def record(offset: int) -> ConsumerRecord:
    return consumed("ttc.events", b"{}", offset=offset)


def test_a_flood_is_a_line_at_once_and_a_count_at_times() -> None:
    log, now = Log(), 0.0
    refusals = RefusalLog(log, clock=lambda: now)
    for offset in range(15_000):
        refusals.note(record(offset), Refused("unknown_run", "who?"))
        refusals.note(record(offset), Refused("schema.missing", "what?"))
        refusals.report()
    assert [line["code"] for line in log.lines] == ["unknown_run", "schema.missing"]
    assert log.lines[0]["offset"] == 0
    now = 31.0
    refusals.report()
    counts = [(line["code"], line["count"], line["seconds"]) for line in log.lines[2:]]
    assert counts == [("unknown_run", 14_999, 31), ("schema.missing", 14_999, 31)]


def test_what_has_stopped_is_logged_in_full_when_it_begins_again() -> None:
    log, now = Log(), 0.0
    refusals = RefusalLog(log, clock=lambda: now)
    refusals.note(record(1), Refused("late", "late"))
    now = 31.0
    refusals.report()
    refusals.note(record(2), Refused("late", "late"))
    assert [line["offset"] for line in log.lines] == [1, 2]
