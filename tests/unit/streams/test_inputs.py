"""Which records a task takes, and what of them decides where it stands."""

from __future__ import annotations

from dataclasses import replace

from tests.helpers.counting import Board, plan
from tests.helpers.inbound import consumed
from tunestream.config.settings import KafkaSettings
from tunestream.streams.changelog.values import Reached
from tunestream.streams.letters.dead_letters import DLQ_REPLAY_FOR, is_for_another
from tunestream.streams.tasks.inputs import Inputs

CREATED, APPENDED = 0, 1


def inputs(name: str) -> Inputs:
    return Inputs(plan(KafkaSettings(), Board(), name), 3)


def test_a_time_of_an_agents_clock_decides_nothing() -> None:
    record = replace(consumed("ttc.events", b"", offset=6), timestamp=4_000_000_000_000)
    taken, made = replace(record, timestamp_type=APPENDED), replace(record, timestamp_type=CREATED)
    assert inputs("ttc.events").reached([taken]) == {"ttc.events": Reached(7, 4_000_000_000_000)}
    assert inputs("ttc.events").reached([made]) == {"ttc.events": Reached(7, None)}


def test_a_time_of_a_service_shows_that_a_topic_was_made_anew() -> None:
    made = replace(consumed("ttc.candidates", b"", offset=6), timestamp=5, timestamp_type=CREATED)
    assert inputs("ttc.candidates").reached([made]) == {"ttc.candidates": Reached(7, 5)}


def test_a_replayed_record_is_for_the_service_that_refused_it_or_for_all() -> None:
    readers = {"pair-builder", "reward"}

    def for_another(*meant: bytes | None) -> bool:
        record = consumed("ttc.candidates", b"", headers=[(DLQ_REPLAY_FOR, one) for one in meant])
        return is_for_another(record, "pair-builder", readers)

    assert for_another(b"reward")
    for meant in ((), (b"pair-builder",), (None,), (b"nobody",), (b"\xff",)):
        assert not for_another(*meant)
