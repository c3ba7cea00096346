"""Curriculum learning: which groups of an epoch train, a pure function of state and rewards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from tunestream.config.run.curriculum import CurriculumLearningConfig
from tunestream.events.ids import stable_id
from tunestream.events.training import CurriculumState

__all__ = ["Selection", "initial_state", "select", "subsampling"]


@dataclass(frozen=True, slots=True)
class Selection:
    """What an epoch trains on.

    Attributes:
        groups: indices of the selected groups, in rank order.
        state: after this epoch.
        dropped: how many groups were left out, by reason.
        within: of an epoch's only group: the indices of the trajectories that were drawn; None for all.
    """

    groups: list[int]
    state: CurriculumState
    dropped: dict[str, int] = field(default_factory=dict)
    within: list[int] | None = None


def initial_state(config: CurriculumLearningConfig) -> CurriculumState:
    """Return the state before the first epoch."""
    return CurriculumState(current_percentile=config.initial_percentile)


def subsampling(run_id: str, digest: str, epoch: int, seed: int) -> Random:
    """Return the source of an epoch's subsampling; the same for the same arguments."""
    return Random(stable_id("subsample", run_id, digest, str(epoch), str(seed)))  # noqa: S311


def select(
    rewards: Sequence[Sequence[float]],
    *,
    sizes: Sequence[int] | None = None,
    epoch: int,
    state: CurriculumState,
    config: CurriculumLearningConfig,
    rng: Random,
) -> Selection:
    """Select the groups of one epoch.

    Args:
        rewards: of each group, by which it is ranked and filtered.
        sizes: how many trajectories each group has; by default as many as rewards.
        epoch: counted from 0.
        state: after the epoch before.
        config: of the curriculum.
        rng: draws the subsample, when one is asked for.
    """
    if not config.enabled:
        return Selection(list(range(len(rewards))), state)
    if len(rewards) == 1:
        size = len(rewards[0]) if sizes is None else sizes[0]
        return Selection([0], state, within=_draw(range(size), size, config, rng))
    left, dropped = _filtered(rewards, config.min_reward_diff)
    if not left:
        return Selection([], state, dropped)
    ranked = sorted(left, key=lambda at: _mean(rewards[at]), reverse=not config.sort_ascending)
    state = _expanded(state, config, epoch, len(ranked))
    included = max(1, math.ceil(len(ranked) * state.current_percentile))
    drawn = _draw(range(included), len(ranked), config, rng)
    groups = [ranked[at] for at in (range(included) if drawn is None else drawn)]
    dropped |= {"percentile": len(ranked) - included, "subsample": included - len(groups)}
    return Selection(
        groups,
        state.model_copy(update={"included_groups": list(range(included))}),
        {reason: count for reason, count in dropped.items() if count},
    )


def _filtered(rewards: Sequence[Sequence[float]], least: float) -> tuple[list[int], dict[str, int]]:
    """Return the groups whose rewards differ enough to teach something."""
    left, dropped = [], {"empty": 0, "low_spread": 0}
    for at, group in enumerate(rewards):
        if not group:
            dropped["empty"] += 1
        elif max(group) - min(group) < least:
            dropped["low_spread"] += 1
        else:
            left.append(at)
    return left, {reason: count for reason, count in dropped.items() if count}


def _expanded(
    state: CurriculumState, config: CurriculumLearningConfig, epoch: int, groups: int
) -> CurriculumState:
    """Note the first epoch's size, and take at most one step up when it is time."""
    update: dict[str, float | int] = {}
    if state.total_groups == 0:
        update["total_groups"] = groups
    due = epoch - state.last_expansion_epoch >= config.expansion_interval
    if due and state.current_percentile < 1.0:
        update["current_percentile"] = min(1.0, state.current_percentile + config.increment_percentile)
        update["last_expansion_epoch"] = epoch
    return state.model_copy(update=update)


def _draw(candidates: range, total: int, config: CurriculumLearningConfig, rng: Random) -> list[int] | None:
    """Draw at most the configured share of ``total``, in order; None when all may stay."""
    if config.random_subsample is None:
        return None
    most = math.ceil(total * config.random_subsample)
    return sorted(rng.sample(candidates, most)) if len(candidates) > most else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
