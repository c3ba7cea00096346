from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunestream.config.run.durations import format_duration, milliseconds, parse_duration


@pytest.mark.parametrize(
    ("written", "count"),
    [
        ("30s", 30_000),
        ("10m", 600_000),
        ("1h30m", 5_400_000),
        ("250ms", 250),
        ("1.5s", 1500),
        (" 2 h ", 7_200_000),
        ("1d", 86_400_000),
        (30, 30_000),
        (0.25, 250),
        ("45", 45_000),
        (timedelta(minutes=2), 120_000),
    ],
)
def test_spellings(written: object, count: int) -> None:
    assert milliseconds(parse_duration(written)) == count


@pytest.mark.parametrize(
    "written",
    [
        "",
        "soon",
        "30 parsecs",
        "-5s",
        0,
        -1,
        True,
        None,
        [],
        "1e3",
        float("nan"),
        float("inf"),
        "0.5ms",
        "400d",
    ],
)
def test_what_is_no_length_of_time_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match=r"length of time|longer than 0|whole milliseconds"):
        parse_duration(written)


@given(st.integers(min_value=1, max_value=366 * 86_400_000))
def test_the_canonical_spelling_reads_back(count: int) -> None:
    duration = timedelta(milliseconds=count)
    assert parse_duration(format_duration(duration)) == duration


def test_one_length_has_one_spelling() -> None:
    assert {format_duration(parse_duration(text)) for text in ("90s", "1.5m", "1m30s", "90000ms")} == {"90s"}
