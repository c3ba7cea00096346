"""Which arm of a study is best, by a metric."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from tunestream.experiments.manifests import ArmManifest, ExperimentManifest
from tunestream.experiments.stages import Stage
from tunestream.experiments.store import ExperimentStore

__all__ = ["Best", "NoBest", "best_arm", "metrics_of"]


class NoBest(ValueError):
    """No complete arm has the metric."""


@dataclass(frozen=True, slots=True)
class Best:
    """The chosen arm; ``value`` is the metric's mean over the seeds of its settings."""

    arm: ArmManifest
    metric: str
    value: float
    seeds: int


def metrics_of(store: ExperimentStore, arm: ArmManifest) -> dict[str, float]:
    """Return the metrics of an arm's complete stages; those of a later stage go before."""
    found: dict[str, float] = {}
    for stage in (Stage.FINETUNE, Stage.QA):
        state = arm.stages.get(stage)
        if state is not None and state.status == "complete" and state.key is not None:
            found |= store.stage(stage, state.key).metrics
    return found


def best_arm(
    store: ExperimentStore,
    experiment: ExperimentManifest,
    *,
    metric: str | None = None,
    minimise: bool | None = None,
) -> Best:
    """Return the best arm: settings are compared by their mean over seeds, then the best seed is taken.

    Args:
        store: where the experiment is.
        experiment: with at least one complete arm.
        metric: by default the study's.
        minimise: whether smaller is better; by default that of the study for its metric.

    Raises:
        NoBest: naming the metrics that there are.
    """
    name = metric or experiment.metric
    smaller = minimise if minimise is not None else _minimises(experiment, metric)
    sign = -1.0 if smaller else 1.0
    groups: dict[str, list[tuple[float, ArmManifest]]] = {}
    known: set[str] = set()
    for arm in experiment.arms:
        values = metrics_of(store, arm)
        known |= values.keys()
        if name in values:
            groups.setdefault(_but_seed(arm), []).append((values[name], arm))
    if not groups:
        there = ", ".join(sorted(known)) or "none: no arm is complete"
        raise NoBest(f"no arm of {experiment.id} has the metric {name!r}; there are: {there}")
    chosen = max(groups.values(), key=lambda members: sign * _mean(members))
    _, arm = max(chosen, key=lambda member: sign * member[0])
    return Best(arm, name, _mean(chosen), len(chosen))


def _minimises(experiment: ExperimentManifest, metric: str | None) -> bool:
    return experiment.minimises if metric in {None, experiment.metric} else "loss" in str(metric)


def _but_seed(arm: ArmManifest) -> str:
    return json.dumps({key: value for key, value in arm.settings.items() if key != "seed"}, sort_keys=True)


def _mean(members: Sequence[tuple[float, ArmManifest]]) -> float:
    return mean(value for value, _ in members)
