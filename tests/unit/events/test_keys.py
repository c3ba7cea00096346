"""Keys: any parts go in and come out again, and no two lists of parts share a key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunestream.events.keys import decode_key, encode_key

ANYTHING = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
# Parts made of what has a meaning in keys and URLs, so that collisions would be found soon.
TRICKY = st.text("/%25Ff+ =.~\x00é", min_size=1, max_size=4)
PARTS = st.lists(ANYTHING | TRICKY, min_size=1, max_size=4).map(tuple)


@given(PARTS)
def test_decoding_is_the_inverse_of_encoding(parts: tuple[str, ...]) -> None:
    assert decode_key(encode_key(*parts)) == parts


@given(PARTS, PARTS)
def test_different_parts_have_different_keys(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert (encode_key(*one) == encode_key(*other)) is (one == other)


@given(PARTS)
def test_a_key_is_printable_ascii(parts: tuple[str, ...]) -> None:
    assert all(0x21 <= byte <= 0x7E for byte in encode_key(*parts))


@pytest.mark.parametrize(
    ("parts", "key"),
    [
        (("a", "b/c"), b"a/b%2Fc"),
        (("a/b", "c"), b"a%2Fb/c"),
        (("tic-tac-toe", "game_1.2~x"), b"tic-tac-toe/game_1.2~x"),
        (("100%", "a b+c"), b"100%25/a%20b%2Bc"),
        (("Zürich", "漢"), b"Z%C3%BCrich/%E6%BC%A2"),
    ],
)
def test_keys_never_change(parts: tuple[str, ...], key: bytes) -> None:
    """Keys decide partitions: another spelling would tear the turns of old and new records apart."""
    assert encode_key(*parts) == key


@pytest.mark.parametrize("parts", [(), ("",), ("run", ""), ("run", "\ud800")])
def test_what_cannot_be_a_part_is_refused(parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"part|surrogates"):
        encode_key(*parts)


@pytest.mark.parametrize("key", [b"run/\xff", b"run/%FF"])
def test_what_is_no_key_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="decode"):
        decode_key(key)
