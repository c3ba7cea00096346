"""The gate before promotion: when a version counts as worse."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunestream.config.run.evaluation import EvaluationConfig
from tunestream.domain.models.evaluation import OwnScores, clustered_mean, describe, judge
from tunestream.events.models import Evaluation, ItemScore, JudgedRow

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


def _judged(
    *scores: list[float] | str, on_error: str = "hold", min_margin: float = 0.0, worse: bool = False
) -> Evaluation:
    """Judge a version that is as good as the one before, or worse, by evaluators e0, e1, …"""
    config = EvaluationConfig.model_validate(
        {
            "evaluators": [
                {"name": f"e{at}", "entry_point": "x", "on_error": on_error, "min_margin": min_margin}
                for at in range(len(scores))
            ]
        }
    )
    own = OwnScores(
        prompts=[f"p{number}" for number in range(40)],
        scores={
            f"e{at}": found
            if isinstance(found, str)
            else [ItemScore(candidate=x, current=0.5) for x in found]
            for at, found in enumerate(scores)
        },
    )
    after = -1.0 if worse else 1.0
    return judge(_rows([(1.0, after)] * 40), config, own)


BETTER, SAME, WORSE = [0.75, 1.0] * 20, [0.5] * 40, [0.25, 0.375] * 20


def test_every_evaluator_has_to_agree() -> None:
    verdict = _judged(BETTER, SAME)
    assert verdict.verdict == "promoted"
    assert [one.verdict for one in verdict.evaluators] == ["passed", "passed"]
    one = verdict.evaluators[0]
    assert (one.items, one.candidate, one.current, one.difference) == (40, 0.875, 0.5, 0.375)
    assert one.low is not None
    assert one.low > 0
    assert _judged(BETTER, worse=True).verdict == "rejected"
    assert _judged(BETTER, WORSE).verdict == "rejected"


def test_each_evaluator_has_its_margin() -> None:
    assert _judged(WORSE, min_margin=-0.2).verdict == "promoted"
    assert _judged(SAME, min_margin=0.1).verdict == "rejected"


def test_a_failed_evaluator_holds_the_version_or_is_ignored() -> None:
    held = _judged(BETTER, "no answer within 30s")
    assert (held.verdict, held.hold) == ("unevaluated", "evaluator e1 failed: no answer within 30s")
    assert held.evaluators[1].verdict == "failed"
    ignored = _judged(BETTER, "no answer within 30s", on_error="ignore")
    assert (ignored.verdict, ignored.hold) == ("promoted", None)
    assert ignored.evaluators[1].reason == "no answer within 30s"
    rejected = _judged(WORSE, "no answer within 30s")
    assert (rejected.verdict, rejected.hold) == ("rejected", None)


def test_evaluators_that_were_not_asked_decide_nothing() -> None:
    config = EvaluationConfig.model_validate({"evaluators": [{"name": "e", "entry_point": "x"}]})
    verdict = judge(_rows([(1.0, 1.0)] * 10), config)
    assert (verdict.verdict, verdict.hold) == ("unevaluated", None)
    assert verdict.evaluators[0].verdict == "unevaluated"


def test_items_of_one_prompt_count_as_one_draw_for_evaluators_too() -> None:
    config = EvaluationConfig.model_validate({"evaluators": [{"name": "e", "entry_point": "x"}]})
    scores = [ItemScore(candidate=0.0 if at % 4 == 0 else 0.5, current=0.5) for at in range(40)]
    verdicts = [
        judge([], config, OwnScores([f"p{at % prompts}" for at in range(40)], {"e": scores})).verdict
        for prompts in (40, 4)
    ]
    assert verdicts == ["rejected", "promoted"]


def test_a_verdict_is_told_with_its_numbers() -> None:
    told = describe(_judged(BETTER, "it is out"))
    assert "preferences +0.000 (+0.000 to +0.000) on 40 rows" in told
    assert "e0 +0.375 (" in told
    assert "e1 failed: it is out" in told
    assert "not compared on 3 held-out rows" in describe(judge(_rows([(1.0, 1.0)] * 3), GATE))
