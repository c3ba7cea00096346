"""Records of a changelog that others may write to."""

from __future__ import annotations

import pytest
from aiokafka import ConsumerRecord

from tests.helpers.inbound import consumed
from tunestream.events.cloudevents import Envelope
from tunestream.events.live import LiveRecord
from tunestream.events.registry import type_of
from tunestream.streams.changelog.unreadable import unknown_type, why_unreadable
from tunestream.streams.fetch.undecodable import Undecodable

TYPE = "tunestream.live_record.v1"
BODY = LiveRecord(run_id="r", generation=1, tenures=[]).to_json()


def record(value: bytes, key: bytes = b"r/live", kind: str = TYPE) -> ConsumerRecord:
    headers = Envelope(id="1", type=kind, source="/x", time=1).to_headers()
    return consumed("training.jobs", value, key=key, headers=headers)


def test_a_record_of_a_service_is_read() -> None:
    assert type_of(LiveRecord) == TYPE
    assert why_unreadable("training.jobs", record(BODY)) is None


@pytest.mark.parametrize(
    "foreign",
    [
        record(b"garbage"),
        record(b"{}"),
        record(b""),
        record(BODY, key=b"\xff"),
        consumed("training.jobs", BODY, key=b"r/live"),
        Undecodable.of_record(record(BODY), b"raw", "the name of its header 1 is not UTF-8"),
    ],
)
def test_a_record_that_no_service_wrote_is_passed_over(foreign: ConsumerRecord) -> None:
    assert unknown_type("training.jobs", foreign) is None
    assert why_unreadable("training.jobs", foreign)


def test_a_type_of_a_later_release_is_no_fault() -> None:
    assert unknown_type("training.jobs", record(BODY, kind="tunestream.live_record.v2"))


def test_state_is_nobody_elses() -> None:
    assert (
        why_unreadable("pair-builder.changelog", consumed("pair-builder.changelog", b"1767225600123")) is None
    )
