"""Which refusals are final: replaying them can never help."""

from __future__ import annotations

import pytest

from tunestream.streams.dead_letters import why_final


@pytest.mark.parametrize(
    "code",
    [
        "undecodable.json",
        "undecodable.header",
        "schema.missing",
        "schema.type",  # as letters of earlier releases have it
        "unknown_type",
        "non_finite",
        "wrong_key",
        "late",
        "turn_full",
        "contradiction",
    ],
)
def test_what_the_sender_has_to_mend_is_final(code: str) -> None:
    assert why_final(code)


@pytest.mark.parametrize("code", ["newer_type", "unknown_run", "wrong_builder", "output_too_large"])
def test_what_we_can_mend_is_not(code: str) -> None:
    assert why_final(code) is None
