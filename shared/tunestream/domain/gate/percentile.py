"""The strategy ``percentile``: the best-ranked share of the groups trains, and the share grows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random

from tunestream.config.run.curriculum import CurriculumLearningConfig
from tunestream.domain.gate.selection import Epoch, Selection, State
from tunestream.events.training import CurriculumState

__all__ = ["PERCENTILE", "Percentile", "initial_percentile_state"]


def initial_percentile_state(config: CurriculumLearningConfig) -> State:
    """Return the state before the first epoch."""
    return CurriculumState(current_percentile=config.initial_percentile).model_dump()


class Percentile:
    """The reference's algorithm; its state is a :class:`CurriculumState`."""

    config = CurriculumLearningConfig

    def select(self, epoch: Epoch, state: State, config: CurriculumLearningConfig) -> Selection:
        """Leave out groups that teach nothing, rank the others by mean reward and take the first ones."""
        rewards = epoch.rewards
        state = state or initial_percentile_state(config)
        if len(rewards) == 1:
            size = epoch.sizes[0]
            return Selection([0], state, within=_draw(range(size), size, config, epoch.rng))
        left, left_out = _filtered(rewards, config.min_reward_diff)
        if not left:
            return _selection([], state, left_out)
        ranked = sorted(left, key=lambda at: _mean(rewards[at]), reverse=not config.sort_ascending)
        after = _expanded(CurriculumState.model_validate(state), config, epoch.number, len(ranked))
        included = max(1, math.ceil(len(ranked) * after.current_percentile))
        drawn = _draw(range(included), len(ranked), config, epoch.rng)
        groups = [ranked[at] for at in (range(included) if drawn is None else drawn)]
        chosen = set(groups)
        left_out["percentile"] = ranked[included:]
        left_out["subsample"] = [at for at in ranked[:included] if at not in chosen]
        return _selection(
            groups, after.model_dump() | {"included_groups": sorted(ranked[:included])}, left_out
        )


PERCENTILE = Percentile()


def _selection(groups: Sequence[int], state: State, left_out: Mapping[str, Sequence[int]]) -> Selection:
    named = {reason: positions for reason, positions in left_out.items() if positions}
    dropped = {reason: len(positions) for reason, positions in named.items()}
    return Selection(groups, state, dropped, left_out=named)


def _filtered(rewards: Sequence[Sequence[float]], least: float) -> tuple[list[int], dict[str, list[int]]]:
    """Return the groups whose rewards differ enough to teach something, and the others by reason."""
    left: list[int] = []
    left_out: dict[str, list[int]] = {"empty": [], "low_spread": []}
    for at, group in enumerate(rewards):
        if not group:
            left_out["empty"].append(at)
        elif max(group) - min(group) < least:
            left_out["low_spread"].append(at)
        else:
            left.append(at)
    return left, left_out


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
