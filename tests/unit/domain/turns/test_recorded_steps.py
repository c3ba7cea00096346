"""Lines that the quick decoder does not take are read all the same, or refused by name."""

from __future__ import annotations

import math

import pytest

from tunestream.domain.turns.recorded_steps import RecordedStep, RecordingError, read_line

DEEP = b"[" * 100_000 + b"]" * 100_000


def line(data: bytes) -> bytes:
    return b'{"example_id": "e", "step": {"payload": {"name": "n", "data": %b}, "more": 1}}' % data


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b'{"score": NaN}', math.nan),
        (b'{"score": -Infinity}', -math.inf),
        (b'{"score": 1e400}', math.inf),
        (b'{"score": 0.5}', 0.5),
        (b'{"score": 1180591620717411303424}', 1 << 70),
    ],
)
def test_any_number_is_read(written: bytes, read: float) -> None:
    step = read_line(1, line(written))
    assert isinstance(step, RecordedStep)
    assert step.payload.name == "n"
    assert step.payload.data["score"] == pytest.approx(read, rel=0, nan_ok=True)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (DEEP, "is nested deeper than 100 levels"),
        (b'"\\ud800"', r"step.payload.data: not text: lone surrogate \\ud800"),
        (b'"\xff"', "is not UTF-8 text: invalid start byte at byte 64"),
        (b"{", "is not JSON"),
        (b'{"score": NaN, "x": ' + b"[" * 200 + b"]" * 200 + b"}", "is nested deeper than 100 levels"),
    ],
    ids=["deep", "surrogate", "bytes", "cut", "deep and not finite"],
)
def test_what_is_not_json_is_refused_with_its_line(data: bytes, reason: str) -> None:
    with pytest.raises(RecordingError, match=f"line 2: {reason}"):
        read_line(2, line(data))


def test_an_example_may_be_named_by_a_number() -> None:
    step = read_line(1, b'{"example_id": 7, "step": {"payload": {}}}')
    assert isinstance(step, RecordedStep)
    assert step.example_id == "7"
