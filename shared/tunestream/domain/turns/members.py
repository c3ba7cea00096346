"""The candidates of a turn as the pair builder holds them: slices of JSON beside what decides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from zlib import crc32

from tunestream.events.views.candidates import MemberView

__all__ = ["Context", "Marked", "Member", "fingerprint", "marked"]


class Context(NamedTuple):
    """What candidates answered, as slices of JSON; the latter two are None when they did not come."""

    prompt: bytes
    tools: bytes | None = None
    token_ids: bytes | None = None


class Member(NamedTuple):
    """A candidate and what it answered."""

    candidate: MemberView
    context: Context


Marked = tuple[MemberView, int]
"""A candidate and its fingerprint."""


def marked(candidates: Iterable[MemberView]) -> list[Marked]:
    """Return candidates with their fingerprints."""
    return [(candidate, fingerprint(candidate)) for candidate in candidates]


def fingerprint(candidate: MemberView) -> int:
    """Return a checksum by which an identical repeat differs from a contradictory one.

    Response, score and index make it: it is the same for a candidate that came alone and in a turn record.
    """
    return crc32(b"%r %r" % (candidate.score, candidate.candidate_index), crc32(candidate.response))
