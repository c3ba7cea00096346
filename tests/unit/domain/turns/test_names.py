"""Names against Python's own set, and how much memory they take."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from tunestream.domain.turns.names import NAME_SIZE, Names

# Few homes, so that names push one another on.
NAMES = st.binary(min_size=1, max_size=3).map(lambda tail: bytes(5) + tail.rjust(NAME_SIZE - 5, b"x"))


@given(st.lists(st.tuples(NAMES, st.integers(0, 9_000), st.booleans()), max_size=200))
def test_it_holds_what_was_not_forgotten(steps: list[tuple[bytes, int, bool]]) -> None:
    names, held, now = Names(), set[bytes](), 0
    for name, step, forget in steps:
        now += step
        if name not in held:
            names.add(name, now, now + 60_000)
            held.add(name)
        if forget and held:
            gone = list(names.forget())
            assert set(gone) <= held
            held -= set(gone)
            assert not any(one in names for one in gone)
        assert len(names) == len(held)
        assert all(one in names for one in held)
        assert (names.oldest() is None) == (not held)


def test_a_part_is_forgotten_when_its_last_name_is() -> None:
    names = Names()
    for number, at in enumerate((0, 9_000, 11_000)):
        names.add(number.to_bytes(NAME_SIZE, "little"), at, at + 60_000)
    assert names.oldest() == (9_000, 69_000)
    assert len(list(names.forget())) == 2
    assert names.oldest() == (11_000, 71_000)


def test_a_hundred_thousand_names_come_and_go() -> None:
    names, drawn = Names(), random.Random(0)
    everything = [drawn.randbytes(NAME_SIZE) for _ in range(100_000)]
    for at, name in enumerate(everything):
        names.add(name, at, at)
    assert all(name in names for name in everything[::97])
    while names.oldest() is not None:
        list(names.forget())
    assert len(names) == 0
