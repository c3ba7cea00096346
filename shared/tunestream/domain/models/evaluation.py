"""Is a new version better? Paired comparisons with intervals that know which items belong together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, sqrt
from statistics import fmean
from typing import Final, Literal, NamedTuple

from tunestream.config.run.evaluation import EvaluationConfig, Evaluator
from tunestream.events.models import Evaluation, EvaluatorVerdict, ItemScore, JudgedRow

__all__ = ["Interval", "OwnScores", "clustered_mean", "describe", "judge"]

_Z95: Final = 1.96


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def clustered_mean(values: Sequence[float], clusters: Sequence[Hashable]) -> Interval:
    """Return the mean with a cluster-robust normal interval.

    Values of one cluster may be right or wrong together, so they count as one draw. A single cluster
    shows nothing about others: its interval has no ends.

    Args:
        values: at least one.
        clusters: of each value, as many as ``values``.
    """
    mean = fmean(values)
    residuals: dict[Hashable, float] = defaultdict(float)
    for cluster, value in zip(clusters, values, strict=True):
        residuals[cluster] += value - mean
    count = len(residuals)
    if count < 2:
        return Interval(mean, -inf, inf)
    variance = count / (count - 1) * sum(residual**2 for residual in residuals.values())
    margin = _Z95 * sqrt(variance) / len(values)
    return Interval(mean, mean - margin, mean + margin)


@dataclass(frozen=True, slots=True)
class OwnScores:
    """What the run's own evaluators gave.

    Attributes:
        prompts: of each held-out item a name that items of the same prompt share.
        scores: by evaluator, as many as items, in their order; or why it gave none.
    """

    prompts: Sequence[str] = ()
    scores: Mapping[str, Sequence[ItemScore] | str] = field(default_factory=dict)


def judge(rows: Iterable[JudgedRow], config: EvaluationConfig, own: OwnScores = OwnScores()) -> Evaluation:
    """Compare a version with the one that it was trained from, on rows that neither was trained on.

    A row is right when its chosen response is the likelier one. The version is rejected when the 95 %
    interval of the difference of the shares of right rows, clustered by prompt, lies below ``min_margin``,
    or that of an evaluator's scores below the evaluator's; with fewer than ``min_items`` rows it is promoted
    as ``unevaluated``. An evaluator that gave no scores holds it, unless it is to be ignored.
    """
    judged = list(rows)
    preferences = _compare(
        [float(row.after > 0) - float(row.before > 0) for row in judged],
        [row.prompt for row in judged],
        min_items=config.min_items,
        min_margin=config.min_margin,
    )
    evaluators = [_ask(evaluator, config.min_items, own) for evaluator in config.evaluators]
    verdicts = [preferences.verdict, *(one.verdict for one in evaluators)]
    hold = _hold(evaluators, config) if "rejected" not in verdicts else None
    return Evaluation(
        items=len(judged),
        difference=preferences.difference,
        low=preferences.low,
        high=preferences.high,
        verdict=_overall(verdicts, hold),
        evaluators=evaluators,
        hold=hold,
    )


def describe(evaluation: Evaluation) -> str:
    """Return a verdict as one line: the differences with their intervals, and what failed."""
    parts = [_line("preferences", evaluation)]
    parts += [
        f"{one.name} {one.verdict}: {one.reason}" if one.reason else f"{_line(one.name, one)}, {one.verdict}"
        for one in evaluation.evaluators
    ]
    return "; ".join(parts)


def _line(name: str, found: Evaluation | EvaluatorVerdict) -> str:
    if found.difference is None or found.low is None or found.high is None:
        return f"{name} not compared on {found.items} held-out rows"
    return f"{name} {found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f}) on {found.items} rows"


class _Comparison(NamedTuple):
    verdict: Literal["passed", "rejected", "unevaluated"]
    difference: float | None = None
    low: float | None = None
    high: float | None = None


def _compare(
    differences: Sequence[float], prompts: Sequence[str], *, min_items: int, min_margin: float
) -> _Comparison:
    if len(differences) < min_items:
        return _Comparison("unevaluated")
    gain = clustered_mean(differences, prompts)
    if gain.low == -inf:
        return _Comparison("unevaluated", gain.mean)
    return _Comparison("rejected" if gain.high < min_margin else "passed", gain.mean, gain.low, gain.high)


def _ask(evaluator: Evaluator, min_items: int, own: OwnScores) -> EvaluatorVerdict:
    found = own.scores.get(evaluator.name)
    if isinstance(found, str):
        return EvaluatorVerdict(
            name=evaluator.name,
            items=len(own.prompts),
            min_margin=evaluator.min_margin,
            verdict="failed",
            reason=found,
        )
    scores = found or ()
    compared = _compare(
        [one.candidate - one.current for one in scores],
        own.prompts[: len(scores)],
        min_items=min_items,
        min_margin=evaluator.min_margin,
    )
    return EvaluatorVerdict(
        name=evaluator.name,
        items=len(scores),
        candidate=fmean(one.candidate for one in scores) if scores else None,
        current=fmean(one.current for one in scores) if scores else None,
        difference=compared.difference,
        low=compared.low,
        high=compared.high,
        min_margin=evaluator.min_margin,
        verdict=compared.verdict,
    )


def _hold(evaluators: Sequence[EvaluatorVerdict], config: EvaluationConfig) -> str | None:
    holding = {evaluator.name for evaluator in config.evaluators if evaluator.on_error == "hold"}
    failed = [one for one in evaluators if one.verdict == "failed" and one.name in holding]
    return "; ".join(f"evaluator {one.name} failed: {one.reason}" for one in failed) or None


def _overall(verdicts: Sequence[str], hold: str | None) -> Literal["promoted", "rejected", "unevaluated"]:
    if "rejected" in verdicts:
        return "rejected"
    return "promoted" if hold is None and "passed" in verdicts else "unevaluated"
