"""Which rows train and which judge."""

from __future__ import annotations

from collections import Counter

import pytest

from tunestream.experiments.splitting import Sizes, SplitImpossible, split


def test_shares_and_numbers_may_stand_beside_one_another() -> None:
    parts = split(100, Sizes(0.8, 0, 15), seed=1)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (80, 0, 15)
    assert parts.train == sorted(parts.train)


def test_a_share_of_training_rows_gives_way_to_rounding() -> None:
    parts = split(7, Sizes(0.5, 0.25, 0.5), seed=1)  # 4, 2 and 4 of 7
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (1, 2, 4)


def test_another_seed_is_another_split_of_the_same_sizes() -> None:
    first, again, other = (split(50, Sizes(30, 10, 10), seed) for seed in (1, 1, 2))
    assert first == again
    assert first.test != other.test
    assert len(other.test) == 10


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (Sizes(8, 0, 4), "there are 10 usable rows; train_size 8"),
        (Sizes(0.5, 5, 5), "ask for more"),
        (Sizes(0.01, 0, 1), "the train part would be empty"),
        (Sizes(5, 0.01, 1), None),  # a share that is rounded to nothing asks for nothing
    ],
)
def test_parts_that_cannot_be_filled_are_refused(sizes: Sizes, message: str | None) -> None:
    if message is None:
        assert split(10, sizes, seed=0).validation == []
    else:
        with pytest.raises(SplitImpossible, match=message):
            split(10, sizes, seed=0)


def test_every_part_has_each_stratum_by_its_share() -> None:
    strata = ["common"] * 80 + ["rare"] * 20
    parts = split(100, Sizes(50, 20, 20), 3, strata=strata)
    for part in (parts.train, parts.validation, parts.test):
        share = Counter(strata[row] for row in part)["rare"] / len(part)
        assert share == pytest.approx(0.2, abs=0.06)


def test_a_group_is_in_one_part_and_large_groups_find_room() -> None:
    groups = ["large"] * 6 + [f"small-{row}" for row in range(6)]
    parts = split(12, Sizes(8, 0, 4), 0, groups=groups)
    names = [{groups[row] for row in part} for part in (parts.train, parts.test)]
    assert not names[0] & names[1]
    assert parts.train
    assert parts.test


def test_one_group_cannot_fill_two_parts() -> None:
    with pytest.raises(SplitImpossible, match="too few rows or groups"):
        split(10, Sizes(5, 0, 5), 0, groups=["one"] * 10)
