"""Marks of dead letters, without a broker."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from tunestream.streams.letters.letter import DeadLetter
from tunestream.streams.letters.marks import Marks, mark_record, tombstone
from tunestream.streams.publish import EncodedRecord

NOW = datetime(2026, 1, 3, tzinfo=UTC)
LETTER = DeadLetter("ttc.events", 3, 17, 1_767_323_045_678, "r", "late", "", "ttc-collector", "1", 3, 99)


def taken(*records: EncodedRecord) -> Marks:
    marks = Marks()
    for record in records:
        consumed: Any = SimpleNamespace(key=record.key, value=record.value)
        marks.take(consumed)
    return marks


def test_a_letter_is_known_by_its_mark() -> None:
    marks = taken(mark_record(LETTER, NOW))
    assert marks.replayed(LETTER) == NOW
    for other in ({"offset": 18}, {"partition": 2}, {"source": "ttc.candidates"}):
        assert marks.replayed(replace(LETTER, **other)) is None


def test_a_letter_of_a_topic_that_was_made_anew_has_no_mark() -> None:
    assert taken(mark_record(LETTER, NOW)).replayed(replace(LETTER, time=LETTER.time + 1)) is None


def test_a_tombstone_removes_a_mark() -> None:
    first, second = LETTER, replace(LETTER, offset=18)
    marks = taken(mark_record(first, NOW), mark_record(second, NOW))
    gone = [tombstone(mark) for mark in marks.before("ttc.events", 3, 18)]
    assert [(record.key, record.value, record.partition) for record in gone] == [
        (b"ttc.events/3/17", None, 3)
    ]
    marks = taken(mark_record(first, NOW), mark_record(second, NOW), *gone)
    assert marks.replayed(first) is None
    assert marks.replayed(second) == NOW


def test_fields_of_a_later_release_are_ignored() -> None:
    record = mark_record(LETTER, NOW)
    assert record.value is not None
    later = replace(record, value=record.value[:-1] + b',"by":"somebody"}')
    assert taken(later).replayed(LETTER) == NOW


def test_a_record_that_no_replay_wrote_leaves_the_mark_before_it() -> None:
    mark = mark_record(LETTER, NOW)
    for value in (b"garbage", b"", b'{"topic": 1}', b"\xff"):
        assert taken(mark, replace(mark, value=value)).replayed(LETTER) == NOW
