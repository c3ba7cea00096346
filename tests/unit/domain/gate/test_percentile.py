"""The percentile strategy against a naive model of the reference's steps, and the known traces."""

from __future__ import annotations

import math
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tunestream.config.run.curriculum import CurriculumLearningConfig
from tunestream.domain.gate.selection import Epoch, Selection, State
from tunestream.domain.gate.strategy import initial_state, run_epoch, subsampling

REWARDS = st.sampled_from([0.0, 0.05, 0.1, 0.5, 0.6, 0.9, 1.0]) | st.floats(-5, 5)
GROUPS = st.lists(st.lists(REWARDS, max_size=4), max_size=12)
CONFIGS = st.builds(
    CurriculumLearningConfig,
    enabled=st.sampled_from([True, True, True, False]),
    initial_percentile=st.sampled_from([0.07, 0.3, 0.6, 1.0]),
    increment_percentile=st.sampled_from([0.1, 0.2, 0.5]),
    expansion_interval=st.integers(1, 4),
    min_reward_diff=st.sampled_from([0.0, 0.1, 1.0]),
    sort_ascending=st.booleans(),
    random_subsample=st.none() | st.sampled_from([0.2, 0.5, 1.0]),
)


def select(
    groups: list[list[float]], *, epoch: int, state: State, config: CurriculumLearningConfig, rng: Random
) -> Selection:
    sizes = [len(group) for group in groups]
    return run_epoch(Epoch(number=epoch, rewards=groups, sizes=sizes, rng=rng), state, config)


class Model:
    """The steps of the reference, one after the other, over a mutable state."""

    def __init__(self, config: CurriculumLearningConfig) -> None:
        self.config = config
        self.percentile = config.initial_percentile
        self.last = -1
        self.total = 0
        self.included: list[int] = []

    def run(self, groups: list[list[float]], epoch: int) -> list[int]:
        """Return the groups that pass before any subsampling."""
        config = self.config
        if not config.enabled or len(groups) == 1:
            return list(range(len(groups)))
        left = []
        for at, group in enumerate(groups):
            if group and not max(group) - min(group) < config.min_reward_diff:
                left.append((sum(group) / len(group), at))
        if not left:
            return []
        sign = 1 if config.sort_ascending else -1
        left.sort(key=lambda pair: sign * pair[0])
        if self.total == 0:
            self.total = len(left)
        if epoch - self.last >= config.expansion_interval and self.percentile < 1:
            self.percentile = min(1.0, self.percentile + config.increment_percentile)
            self.last = epoch
        count = max(1, math.ceil(len(left) * self.percentile))
        # As the reference: a set of positions in the input.
        self.included = sorted(at for _, at in left[:count])
        return [at for _, at in left[:count]]

    def cap(self, groups: list[list[float]]) -> int:
        left = [g for g in groups if g and not max(g) - min(g) < self.config.min_reward_diff]
        return math.ceil(len(left) * (self.config.random_subsample or 1))


@given(CONFIGS, st.lists(GROUPS, max_size=8), st.integers(0, 3))
def test_selection_equals_the_naive_model(
    config: CurriculumLearningConfig, epochs: list[list[list[float]]], seed: int
) -> None:
    model, state = Model(config), initial_state(config)
    for epoch, groups in enumerate(epochs):
        expected = model.run(groups, epoch)
        result = select(groups, epoch=epoch, state=state, config=config, rng=Random(seed))
        state = result.state
        assert state == {
            "current_percentile": model.percentile,
            "last_expansion_epoch": model.last,
            "total_groups": model.total,
            "included_groups": model.included,
        }
        if config.enabled and len(groups) > 1:
            assert len(result.groups) == min(len(expected), model.cap(groups))
            assert [at for at in expected if at in result.groups] == result.groups
            assert sum(result.dropped.values()) == len(groups) - len(result.groups)
        else:
            assert result.groups == expected


def test_the_reference_trace_of_ten_groups() -> None:
    config = CurriculumLearningConfig(enabled=True)
    state, counts = initial_state(config), []
    groups = [[at, at + 1.0] for at in range(10)]
    for epoch in range(21):
        result = select(groups, epoch=epoch, state=state, config=config, rng=Random(0))
        state = result.state
        counts.append(len(result.groups))
    assert counts == [3] * 4 + [5] * 5 + [7] * 5 + [9] * 5 + [10] * 2


def test_spread_is_compared_in_raw_floats() -> None:
    config = CurriculumLearningConfig(enabled=True, initial_percentile=1.0)
    groups = [[0.6, 0.5], [0.2, 0.1], [0.9, 0.1]]  # 0.6 - 0.5 is 0.09999999999999998
    result = select(groups, epoch=0, state=initial_state(config), config=config, rng=Random(0))
    assert result.groups == [2, 1]
    assert result.dropped == {"low_spread": 1}


def test_an_only_group_is_subsampled_within() -> None:
    config = CurriculumLearningConfig(enabled=True, random_subsample=0.5)
    before = initial_state(config)
    result = select([[1.0] * 5], epoch=0, state=before, config=config, rng=Random(1))
    assert result.groups == [0]
    assert result.within is not None
    assert len(result.within) == 3
    assert result.state == before


def test_subsampling_is_seeded_by_run_configuration_and_epoch() -> None:
    draws = {
        subsampling(run, config_digest, epoch, seed).random()
        for run in "ab" for config_digest in "cd" for epoch in (0, 1) for seed in (0, 1)
    }  # fmt: skip
    assert len(draws) == 16
    assert subsampling("a", "c", 0, 0).random() == subsampling("a", "c", 0, 0).random()
