"""Dead letters: which are final, and what becomes of one that fits no topic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from tunestream.domain.effects import Refused
from tunestream.events.ids import content_digest
from tunestream.streams.letters.dead_letters import (
    DLQ_MESSAGE,
    DLQ_OFFSET,
    DLQ_PARTITION,
    DLQ_REASON,
    DLQ_SHA256,
    DLQ_SIZE,
    DLQ_TOPIC,
    DLQ_URI,
    dead_letter,
    dead_letter_headers,
    original_headers,
    shortened,
    why_final,
)
from tunestream.streams.letters.letter import DeadLetter


@pytest.mark.parametrize(
    "code",
    [
        "undecodable.json",
        "undecodable.header",
        "schema.missing",
        "schema.type",  # as letters of earlier releases have it
        "unknown_type",
        "non_finite",
        "wrong_key",
        "late",
        "turn_full",
        "contradiction",
    ],
)
def test_what_the_sender_has_to_mend_is_final(code: str) -> None:
    assert why_final(code)


@pytest.mark.parametrize("code", ["newer_type", "unknown_run", "wrong_builder", "output_too_large"])
def test_what_we_can_mend_is_not(code: str) -> None:
    assert why_final(code) is None


LIMIT = 1 << 20
REFUSED = Refused("schema.missing", "field run_id: Field required")


def _record(
    value: bytes, key: bytes = b"k", headers: Sequence[tuple[str, bytes | None]] = (("h", b"1"),)
) -> Any:
    return ConsumerRecord("ttc.events", 3, 17, 0, 0, key, value, None, 1, len(value), tuple(headers))


@pytest.mark.parametrize(
    ("record", "key", "headers"),
    [
        (_record(b"v" * 2 * LIMIT), b"k", [("h", b"1")]),
        (_record(b"v" * 2 * LIMIT, headers=[("h", b"h" * LIMIT)]), b"k", []),
        (_record(b"v" * 2 * LIMIT, b"k" * LIMIT, [("h", b"h" * LIMIT)]), None, []),
        (_record(b"", b"k", [("h", b"h" * LIMIT)]), b"k", []),
    ],
)
@pytest.mark.parametrize("uri", [None, "artifact://objects/aa/aaaa"])
def test_a_letter_that_fits_no_topic_keeps_its_place_and_its_beginning(
    record: Any, key: bytes | None, headers: list[tuple[str, bytes]], uri: str | None
) -> None:
    letter = dead_letter(record, REFUSED, "ttc-collector")
    assert letter.size > LIMIT

    short = shortened(letter, LIMIT, uri)

    assert short.size <= LIMIT
    assert short.key == key
    assert original_headers(short.headers) == headers
    assert short.value == record.value[: len(short.value or b"")]
    assert short.value or not record.value
    marks = dict(short.headers)
    assert (marks[DLQ_TOPIC], marks[DLQ_PARTITION], marks[DLQ_OFFSET]) == (b"ttc.events", b"3", b"17")
    assert (marks[DLQ_REASON], marks[DLQ_SIZE]) == (b"schema.missing", str(len(record.value)).encode())
    assert marks[DLQ_SHA256] == content_digest(record.value).encode()
    assert marks.get(DLQ_URI) == (uri.encode() if uri else None)
    message = (marks[DLQ_MESSAGE] or b"").decode()
    assert message.startswith(REFUSED.message)
    assert (uri or "no store") in message


def test_headers_that_only_a_letter_has_are_not_its_senders() -> None:
    headers = (("ts_dlq_junk", b"j" * 2 * LIMIT), ("h", b"1"), (DLQ_TOPIC, b"another"))
    letter = dead_letter(_record(b"v", headers=headers), REFUSED, "ttc-collector")
    assert letter.size < LIMIT
    assert [value for name, value in letter.headers if name == DLQ_TOPIC] == [b"ttc.events"]
    assert original_headers(letter.headers) == [("h", b"1")]


def test_a_letter_that_no_service_wrote_is_shown_and_never_sent_again() -> None:
    ours = dead_letter_headers(_record(b"v"), REFUSED, "ttc-collector")
    assert DeadLetter.of("ttc.events", _record(b"v", headers=ours)).code == "schema.missing"
    for name, value in (
        (DLQ_REASON, b"\xff"),
        (DLQ_MESSAGE, None),
        (DLQ_OFFSET, b"seven"),
        (DLQ_OFFSET, None),
    ):
        headers = [*ours, (name, value)]
        letter = DeadLetter.of("ttc.events", _record(b"v", headers=headers))
        assert (letter.code, letter.partition, letter.offset, letter.final) == ("foreign", 3, 17, True)
    assert DeadLetter.of("ttc.events", _record(b"v", b"\xff", headers=[])).code == "foreign"
