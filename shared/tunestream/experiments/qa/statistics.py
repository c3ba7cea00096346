"""Means with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

import numpy as np

from tunestream.experiments.results import MetricEstimate

__all__ = ["estimate"]

_DRAWN: Final = 2_000_000  # numbers drawn at a time: 16 MB


def estimate(
    values: Sequence[float], clusters: Sequence[Hashable], *, confidence: float, resamples: int, seed: int
) -> MetricEstimate:
    """Return the mean with its percentile bootstrap interval.

    Values of one cluster, e.g. of one prompt, are drawn together. The
    interval of a single cluster has no ends.

    Args:
        values: at least one.
        clusters: of each value, as many as ``values``.
        confidence: of the interval, between 0 and 1.
        resamples: bootstrap draws.
        seed: of the draws; the same values and seed give the same interval.
    """
    mean = float(np.mean(values))
    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    members = np.array([numbers[cluster] for cluster in clusters])
    if len(numbers) < 2:
        return MetricEstimate(mean=mean, low=None, high=None, rows=len(values))
    sums = np.bincount(members, weights=np.asarray(values, dtype=float))
    sizes = np.bincount(members)
    means = np.concatenate(
        [_resample(sums, sizes, draws, rng) for draws, rng in _portions(len(numbers), resamples, seed)]
    )
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return MetricEstimate(mean=mean, low=float(low), high=float(high), rows=len(values))


def _portions(clusters: int, resamples: int, seed: int) -> list[tuple[int, np.random.Generator]]:
    """Cut the draws into portions that fit into memory, all of one random stream."""
    rng = np.random.default_rng(seed)
    size = max(1, _DRAWN // clusters)
    return [(min(size, resamples - start), rng) for start in range(0, resamples, size)]


def _resample(sums: np.ndarray, sizes: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return the means of so many draws of all clusters, with replacement."""
    drawn = rng.integers(0, len(sums), size=(draws, len(sums)))
    means: np.ndarray = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return means
