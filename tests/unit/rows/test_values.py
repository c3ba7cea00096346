"""Lone surrogates are found in any text, with the field that holds them."""

from __future__ import annotations

import pytest

from tunestream.rows.values import find_surrogate


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("plain ä 🙂", None),
        (None, None),
        (["a", {"b": 1.5, "c": "\U0001f642"}], None),
        ("x\ud83d", ("", r"\ud83d")),
        ({"response": "x\udcff"}, ("response", r"\udcff")),
        ({"prompt": [{"content": "ok"}, {"content": "\ud800"}]}, ("prompt.1.content", r"\ud800")),
        ({"metadata": {"\ud83dkey": 1}}, ("metadata", r"\ud83d")),
        ({"items": ("a", "\udfff")}, ("items.1", r"\udfff")),
    ],
)
def test_half_a_character_is_found(value: object, found: tuple[str, str] | None) -> None:
    assert find_surrogate(value) == found
