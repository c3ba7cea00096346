"""The values of each answer, and what follows from all of them."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import Field

from tunestream.events.base import FiniteFloat, Wire
from tunestream.events.messages import Prompt
from tunestream.experiments.journal import read_lines
from tunestream.experiments.qa.metrics import Metric, measure
from tunestream.experiments.qa.statistics import estimate
from tunestream.experiments.requests import QaRequest
from tunestream.experiments.results import MetricEstimate, QaResult, ResultRow, TestBank
from tunestream.experiments.stages import StageFailed

__all__ = ["Pair", "ScoreRow", "measure_pair", "read_pairs", "summarise_scores"]

_SIDES: Final = ("tuned", "baseline")

Pair = tuple[ResultRow, ResultRow | None]
"""A row's answers by the tuned model and by the baseline."""

Columns = Mapping[str, Mapping[int, float]]
"""Metric → position of the row → value."""


class ScoreRow(Wire):
    """One line of ``scores.jsonl``; ``failures`` holds why ``SIDE.METRIC`` has no value."""

    id: str
    tuned: dict[str, FiniteFloat]
    baseline: dict[str, FiniteFloat] | None = None
    failures: dict[str, str] = Field(default_factory=dict)


def read_pairs(request: QaRequest) -> list[Pair]:
    """Return the answers of the tuned model, each with that of the baseline.

    Raises:
        StageFailed: when the two did not answer the same rows.
    """
    tuned = read_lines(request.tuned, ResultRow)
    if request.baseline is None:
        return [(row, None) for row in tuned]
    baseline = {row.id: row for row in read_lines(request.baseline, ResultRow)}
    if [row.id for row in tuned] != list(baseline):
        raise StageFailed(
            "unpaired_results", f"{request.tuned} and {request.baseline} do not hold the same rows"
        )
    return [(row, baseline[row.id]) for row in tuned]


def measure_pair(pair: Pair, metrics: Mapping[str, Metric]) -> ScoreRow:
    """Return the values of all metrics for both answers, and why a value is missing."""
    values: dict[str, dict[str, float]] = {}
    failures: dict[str, str] = {}
    for side, row in zip(_SIDES, pair, strict=True):
        if row is None:
            continue
        values[side] = {}
        for name, metric in metrics.items():
            found = measure(
                metric, prompt=_text(row.prompt), ground_truth=row.ground_truth, predicted=row.predicted
            )
            if isinstance(found, str):
                failures[f"{side}.{name}"] = found
            else:
                values[side][name] = found
    return ScoreRow(id=pair[0].id, failures=failures, **values)


def summarise_scores(
    request: QaRequest, pairs: Sequence[Pair], scores: Sequence[ScoreRow], tests: Sequence[TestBank]
) -> QaResult:
    """Return the means of all metrics with their intervals.

    Args:
        request: names confidence, resamples and seed.
        pairs: the answers.
        scores: of each pair, in the same order.
        tests: how many tests of each bank were passed.
    """
    prompts = [_text(tuned.prompt) for tuned, _ in pairs]
    tuned = _columns([row.tuned for row in scores])
    baseline = _columns([row.baseline or {} for row in scores])

    def estimates(values: Columns) -> dict[str, MetricEstimate]:
        return {
            name: estimate(
                list(column.values()),
                [prompts[number] for number in column],
                confidence=request.config.confidence,
                resamples=request.config.resamples,
                seed=request.seed,
            )
            for name, column in values.items()
            if column
        }

    return QaResult(
        tuned=estimates(tuned),
        baseline=estimates(baseline),
        difference=estimates(_differences(tuned, baseline)),
        failures=_failures(scores),
        tests=list(tests),
    )


def _columns(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[int, float]]:
    """Return metric → position of the row → value."""
    columns: dict[str, dict[int, float]] = defaultdict(dict)
    for number, values in enumerate(rows):
        for name, value in values.items():
            columns[name][number] = value
    return columns


def _failures(scores: Sequence[ScoreRow]) -> dict[str, dict[str, int]]:
    """Return metric → reason → how many answers have no value for it."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for row in scores:
        for name, reason in row.failures.items():
            found[name.partition(".")[2]][reason] += 1
    return {name: dict(reasons) for name, reasons in found.items()}


def _differences(tuned: Columns, baseline: Columns) -> dict[str, dict[int, float]]:
    """Return tuned - baseline for the rows on which both have a value."""
    return {
        name: {number: column[number] - other for number, other in baseline[name].items() if number in column}
        for name, column in tuned.items()
        if name in baseline
    }


def _text(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return prompt
    return json.dumps([message.model_dump(exclude_none=True) for message in prompt], ensure_ascii=False)
