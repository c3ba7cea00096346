"""Is a new version better? Paired comparisons with intervals that know which items belong together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from statistics import fmean
from typing import Final

from tunestream.config import EvaluationConfig
from tunestream.events import Evaluation, JudgedRow

__all__ = ["Interval", "clustered_mean", "judge"]

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
    tells nothing about others: its interval has no ends.

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


def judge(rows: Iterable[JudgedRow], config: EvaluationConfig) -> Evaluation:
    """Compare a version with the one that it was trained from, on rows that neither was trained on.

    A row is right when its chosen response is the likelier one. The version is rejected when the 95 %
    interval of the difference of the shares of right rows, clustered by prompt, lies below ``min_margin``;
    with fewer than ``min_items`` rows it is promoted as ``unevaluated``.
    """
    judged = list(rows)
    if len(judged) < config.min_items:
        return Evaluation(items=len(judged), verdict="unevaluated")
    gain = clustered_mean(
        [float(row.after > 0) - float(row.before > 0) for row in judged], [row.prompt for row in judged]
    )
    if gain.low == -inf:
        return Evaluation(items=len(judged), difference=gain.mean, verdict="unevaluated")
    return Evaluation(
        items=len(judged),
        difference=gain.mean,
        low=gain.low,
        high=gain.high,
        verdict="rejected" if gain.high < config.min_margin else "promoted",
    )
