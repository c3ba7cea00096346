from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunestream.experiments.qa.statistics import estimate
from tunestream.experiments.results import MetricEstimate


def of(
    values: list[float], clusters: list[str] | None = None, *, seed: int = 0, confidence: float = 0.95
) -> MetricEstimate:
    names = clusters or [str(number) for number in range(len(values))]
    return estimate(values, names, confidence=confidence, resamples=2000, seed=seed)


@given(values=st.lists(st.floats(-5, 5), min_size=2, max_size=20))
@settings(max_examples=40)
def test_the_interval_holds_the_mean_and_stays_within_the_values(values: list[float]) -> None:
    found = of(values)
    assert found.low is not None
    assert found.high is not None
    slack = 1e-9
    assert min(values) - slack <= found.low <= found.mean + slack
    assert found.mean - slack <= found.high <= max(values) + slack
    assert found.rows == len(values)


def test_the_interval_is_about_as_wide_as_theory_says() -> None:
    found = of([0.0, 1.0] * 200)
    half = 1.96 * 0.5 / 400**0.5
    assert found.low == pytest.approx(0.5 - half, abs=0.01)
    assert found.high == pytest.approx(0.5 + half, abs=0.01)


def test_more_confidence_is_a_wider_interval() -> None:
    values = [0.0, 1.0] * 50
    wide, narrow = of(values, confidence=0.99), of(values, confidence=0.5)
    assert wide.low is not None
    assert narrow.low is not None
    assert wide.low < narrow.low < 0.5


def test_rows_of_one_prompt_count_as_one_draw() -> None:
    values = [0.0] * 10 + [1.0] * 10
    alone, together = of(values), of(values, ["a"] * 10 + ["b"] * 10)
    assert alone.low is not None
    assert (together.low, together.high) == (0.0, 1.0)
    assert alone.low > 0.2


def test_the_seed_decides_the_draws() -> None:
    values = [float(number % 7) for number in range(30)]
    assert of(values, seed=1) == of(values, seed=1)
    assert of(values, seed=1) != of(values, seed=2)


def test_one_prompt_tells_nothing_of_others() -> None:
    found = of([0.0, 1.0], ["a", "a"])
    assert (found.mean, found.low, found.high) == (0.5, None, None)
