"""A follower notices that it was away for longer than tombstones can be relied upon."""

from __future__ import annotations

from typing import Any

from aiokafka import TopicPartition

from tunestream.streams.changelog.absence import Absence, Reading

FIRST, SECOND = TopicPartition("runs", 0), TopicPartition("runs", 1)
MINUTE = 60_000


class Answered:
    """A consumer whose fetches were answered at these times, in ms."""

    def __init__(self) -> None:
        self.at: dict[TopicPartition, int] = {}

    def last_poll_timestamp(self, place: TopicPartition) -> int | None:
        return self.at.get(place)


def test_one_partition_away_for_more_than_a_quarter_of_an_hour_is_enough() -> None:
    absence, consumer = Absence(), Answered()
    shown: Any = consumer
    assert not absence.was_long(shown, [FIRST, SECOND])
    consumer.at = {FIRST: 0, SECOND: 0}
    assert not absence.was_long(shown, [FIRST, SECOND])
    consumer.at = {FIRST: 15 * MINUTE, SECOND: 1}
    assert not absence.was_long(shown, [FIRST, SECOND])
    consumer.at = {FIRST: 15 * MINUTE, SECOND: 15 * MINUTE + 2}
    assert absence.was_long(shown, [FIRST, SECOND])
    assert not absence.was_long(shown, [FIRST, SECOND])


def test_what_did_not_come_again_until_the_end_is_gone() -> None:
    again = Reading({FIRST: 3, SECOND: 0}, "runs")
    again.note(b"kept")
    assert again.gone({b"kept", b"gone"}, {FIRST: 2, SECOND: 0}) is None
    assert again.gone({b"kept", b"gone"}, {FIRST: 3, SECOND: 0}) == {b"gone"}
