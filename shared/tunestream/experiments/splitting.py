"""Which rows train, which judge: a seeded split, if asked by strata or by groups."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Parts", "Sizes", "SplitImpossible", "split"]


class SplitImpossible(ValueError):
    """The parts cannot be filled."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of each part: a share of the rows, or their number."""

    train: float | int
    validation: float | int
    test: float | int


@dataclass(frozen=True, slots=True)
class Parts:
    """Positions of the rows of each part, ascending; a row may be in none."""

    train: list[int]
    validation: list[int]
    test: list[int]


def split(
    count: int,
    sizes: Sizes,
    seed: int,
    *,
    strata: Sequence[object] | None = None,
    groups: Sequence[object] | None = None,
) -> Parts:
    """Divide ``count`` rows; the same arguments give the same parts.

    Args:
        count: rows.
        sizes: of the parts.
        seed: of the shuffle.
        strata: of each row; every part has each stratum's share, to a row.
        groups: of each row; a group is in one part, whose size is then met as closely as groups allow.

    Raises:
        SplitImpossible: when there are fewer rows than asked for, or a part that should have rows gets none.
    """
    wanted = _numbers(count, sizes)
    rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
    if groups is not None:
        parts = _by_group(groups, wanted, rng)
    elif strata is not None:
        parts = _by_stratum(strata, wanted, rng)
    else:
        order = rng.sample(range(count), count)
        parts = _cut(order, wanted)
    _check(parts, wanted)
    test, validation, train = (sorted(part) for part in parts)
    return Parts(train, validation, test)


def _numbers(count: int, sizes: Sizes) -> tuple[int, int, int]:
    """Return the rows of test, validation and train."""
    test, validation, train = (_number(count, size) for size in (sizes.test, sizes.validation, sizes.train))
    if test + validation + train > count:
        if isinstance(sizes.train, float):  # rounding of shares, or numbers beside a share
            train = count - test - validation
        if train < 1 or not isinstance(sizes.train, float):
            raise SplitImpossible(
                f"there are {count} usable rows; train_size {sizes.train}, validation_size "
                f"{sizes.validation} and test_size {sizes.test} ask for more: lower them"
            )
    return test, validation, train


def _number(count: int, size: float) -> int:
    return size if isinstance(size, int) and not isinstance(size, bool) else round(count * size)


def _cut(order: Sequence[int], wanted: tuple[int, int, int]) -> list[list[int]]:
    parts, start = [], 0
    for number in wanted:
        parts.append(list(order[start : start + number]))
        start += number
    return parts


def _by_stratum(
    strata: Sequence[object], wanted: tuple[int, int, int], rng: random.Random
) -> list[list[int]]:
    """Shuffle, sort by how far through its stratum each row is, and cut: any stretch has all shares."""
    members: dict[str, list[int]] = {}
    for position, stratum in enumerate(strata):
        members.setdefault(str(stratum), []).append(position)
    placed = []
    for name in sorted(members):
        rows = members[name]
        rng.shuffle(rows)
        placed += [((rank + rng.random()) / len(rows), row) for rank, row in enumerate(rows)]
    order = [row for _, row in sorted(placed)]
    return _cut(order, wanted)


def _by_group(groups: Sequence[object], wanted: tuple[int, int, int], rng: random.Random) -> list[list[int]]:
    members: dict[str, list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault(str(group), []).append(position)
    names = rng.sample(sorted(members), len(members))
    parts: list[list[int]] = [[], [], []]
    for name in names:
        rows = members[name]
        room = [number - len(part) for number, part in zip(wanted, parts, strict=True)]
        fitting = [index for index, left in enumerate(room) if left >= len(rows)]
        empty = [index for index, left in enumerate(room) if left > 0 and not parts[index]]
        chosen = next(iter(fitting or empty), None)
        if chosen is not None:
            parts[chosen] += rows
    return parts


def _check(parts: Sequence[Sequence[int]], wanted: tuple[int, int, int]) -> None:
    for name, part, number in zip(("test", "validation", "train"), parts, wanted, strict=True):
        if (number or name == "train") and not part:
            raise SplitImpossible(f"the {name} part would be empty: there are too few rows or groups")
