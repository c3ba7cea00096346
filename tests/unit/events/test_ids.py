"""Identifiers: hashes of names alone, the same for ever."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunestream.events.ids import (
    batch_id,
    candidate_id,
    content_digest,
    episode_id,
    group_id,
    job_id,
    stable_id,
    version_id,
)

# Digits and colons are what the lengths are written with.
PART = st.text("0123456789:a/", max_size=6) | st.text()
PARTS = st.lists(PART, max_size=4).map(tuple)


@given(PART, PARTS, PART, PARTS)
def test_different_names_have_different_ids(
    kind: str, parts: tuple[str, ...], other_kind: str, other_parts: tuple[str, ...]
) -> None:
    same = (kind, *parts) == (other_kind, *other_parts)
    assert (stable_id(kind, *parts) == stable_id(other_kind, *other_parts)) is same


@given(st.lists(PART, min_size=1, max_size=4), st.integers(0, 20))
def test_a_text_cut_at_another_place_has_another_id(parts: list[str], at: int) -> None:
    joined = "".join(parts)
    cut = [joined[:at], joined[at:]]
    assert (stable_id("k", *parts) == stable_id("k", *cut)) is (parts == cut)


@given(PART, PARTS)
def test_an_id_is_128_bits_in_hexadecimal(kind: str, parts: tuple[str, ...]) -> None:
    name = stable_id(kind, *parts)
    assert len(name) == 32
    assert set(name) <= set("0123456789abcdef")


def test_half_a_surrogate_has_an_id() -> None:
    """Python programs may hold such text; an id of it must not fail."""
    assert stable_id("k", "\ud800") != stable_id("k", "\ud801")


@pytest.mark.parametrize(
    ("make", "parts", "expected"),
    [
        (candidate_id, ("run", "ex", "turn", "uuid"), "2364dcd05d69a137c12cdc93dcbc3537"),
        (episode_id, ("run", "ex", "uuid"), "bf8bdcd48ea643ade43004d71854bc4a"),
        (group_id, ("run", "ex", "turn", "first"), "e8095a29daaec3030bb048dfcfe30e99"),
        (batch_id, ("run", "digest", 3, "sha"), "106f7a4ed672ae92b0687e1008afd4ba"),
        (job_id, ("run", "batch"), "eeca7e3360195691391364c18d15e930"),
        (version_id, ("run", "job"), "8730cacad0a564125ac00d4110d9a895"),
    ],
)
def test_ids_never_change(make: Callable[..., str], parts: tuple[object, ...], expected: str) -> None:
    """Were they to change, a replay after an upgrade would count everything a second time."""
    assert make(*parts) == expected


def test_the_hashed_text_is_as_documented() -> None:
    text = "9:candidate3:run2:ex"
    assert stable_id("candidate", "run", "ex") == hashlib.sha256(text.encode()).hexdigest()[:32]


def test_kinds_of_the_same_parts_differ() -> None:
    assert job_id("a", "b") != version_id("a", "b")
    assert candidate_id("r", "e", "t", "x") != group_id("r", "e", "t", "x")


def test_content_is_named_by_its_sha256() -> None:
    assert content_digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
