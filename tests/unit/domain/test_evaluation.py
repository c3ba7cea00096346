"""The gate before promotion: when a version counts as worse."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunestream.config import EvaluationConfig
from tunestream.domain.evaluation import clustered_mean, judge
from tunestream.events import JudgedRow

GATE = EvaluationConfig()


def _rows(pairs: list[tuple[float, float]], prompts: int | None = None) -> list[JudgedRow]:
    count = prompts or len(pairs)
    return [
        JudgedRow(prompt=f"p{number % count}", before=before, after=after)
        for number, (before, after) in enumerate(pairs)
    ]


def test_a_version_that_gets_worse_is_rejected() -> None:
    verdict = judge(_rows([(1.0, -1.0)] * 20 + [(1.0, 1.0)] * 20), GATE)
    assert verdict.verdict == "rejected"
    assert verdict.items == 40
    assert verdict.difference == -0.5
    assert verdict.high is not None
    assert verdict.high < 0


@pytest.mark.parametrize("pairs", [[(-1.0, 1.0)] * 40, [(1.0, 1.0)] * 40, [(1.0, -1.0), *[(1.0, 1.0)] * 39]])
def test_better_equal_and_unclear_are_promoted(pairs: list[tuple[float, float]]) -> None:
    assert judge(_rows(pairs), GATE).verdict == "promoted"


def test_a_margin_asks_for_more_than_no_harm() -> None:
    rows = _rows([(1.0, 1.0)] * 40)
    assert judge(rows, EvaluationConfig(min_margin=0.01)).verdict == "rejected"
    assert judge(rows, EvaluationConfig(min_margin=-0.01)).verdict == "promoted"


def test_few_rows_decide_nothing() -> None:
    assert judge(_rows([(1.0, -1.0)] * 29), GATE).verdict == "unevaluated"
    assert judge(_rows([(1.0, -1.0)] * 60, prompts=1), GATE).verdict == "unevaluated"


def test_rows_of_one_prompt_count_as_one_draw() -> None:
    pairs = [(1.0, -1.0) if number % 4 == 0 else (1.0, 1.0) for number in range(40)]
    alone, together = judge(_rows(pairs), GATE), judge(_rows(pairs, prompts=4), GATE)
    assert alone.verdict == "rejected"
    assert together.verdict == "promoted", "one bad prompt of four may be chance"


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.integers(1, 10))
def test_an_interval_holds_its_mean(values: list[float], count: int) -> None:
    clusters = [number % count for number in range(len(values))]
    interval = clustered_mean(values, clusters)
    assert interval.low <= interval.mean <= interval.high
    assert (interval.low == -inf) == (len(set(clusters)) < 2)
