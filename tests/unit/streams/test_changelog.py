"""What stands in a changelog, and that what stood there before is read as before."""

from __future__ import annotations

import pytest

from tests.helpers.runs import run_config
from tunestream.config.settings import KafkaSettings
from tunestream.domain.turns.memory import Closed
from tunestream.events.keys import encode_key
from tunestream.events.runs import FIRST_FORMAT, FORMAT, NewerFormat
from tunestream.streams.changelog.values import (
    POSITIONS_KEY,
    Reached,
    decode_positions,
    encode_positions,
    unwrap,
    wrap,
)
from tunestream.streams.tasks.handler import Handler
from tunestream.streams.tasks.plan import Plan
from tunestream.topics import INPUTS, changelog_of

OLD_VALUES = [
    b"1767225600123 -1",
    b"-1 -1",
    b'{"run_id": "r"}',
    b' \t\r\n{"a": 1}',
    b"[1]",
    b"",
    Closed(0, 1, 2, b"").to_bytes(),
    Closed(1 << 40, 1, 2, b"12345678").to_bytes(),
    run_config("r").model_dump_json().encode(),
]


@pytest.mark.parametrize("value", OLD_VALUES, ids=lambda value: value[:12])
def test_a_value_comes_back_as_it_was_written_in_both_formats(value: bytes) -> None:
    old, new = wrap(value, FIRST_FORMAT), wrap(value, FORMAT)
    assert old == value
    assert new is not None
    assert new != value
    assert unwrap(old) == unwrap(new) == value


def test_a_tombstone_stays_a_tombstone() -> None:
    assert wrap(None, FORMAT) is wrap(None, FIRST_FORMAT) is None


def test_a_value_of_a_later_release_is_refused_with_the_remedy() -> None:
    with pytest.raises(NewerFormat, match="install the release"):
        unwrap(b"\x03anything")


def test_positions_come_back_without_what_a_later_release_adds() -> None:
    reached = {"ttc.candidates": Reached(7, 1767225600123), "ttc.scores": Reached(0)}
    assert decode_positions(encode_positions(reached)) == reached
    later = b'{"ttc.candidates":{"offset":7,"time":5,"epoch":3},"more":{"other":1}}'
    assert decode_positions(later) == {"ttc.candidates": Reached(7, 5)}


def test_no_handler_can_make_the_key_of_the_positions() -> None:
    for part in ("\x00positions", "positions", "a/b"):
        assert encode_key(part) != POSITIONS_KEY


def test_topics_that_others_read_hold_no_positions() -> None:
    def state_topic(service: str, changelog: str | None) -> str | None:
        return Plan(service, INPUTS[service], changelog, lambda _: Handler(), KafkaSettings()).state_topic

    for service in ("ttc-collector", "pair-builder", "curriculum-gate"):
        assert state_topic(service, changelog_of(service)) == changelog_of(service)
    assert state_topic("trainer", "training.jobs") == changelog_of("trainer")
    assert state_topic("trainer", None) is None


def test_a_record_without_a_time_leaves_none() -> None:
    assert Reached.after(6, 1767225600123) == Reached(7, 1767225600123)
    assert Reached.after(6, -1) == Reached(7, None)
