"""The candidates of a turn as the pair builder holds them: slices of JSON beside what decides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from zlib import crc32

import orjson

from tunestream.events.views.candidates import MemberView
from tunestream.events.views.slices import integer

__all__ = ["Context", "Members", "fingerprint", "fingerprints"]


class Context(NamedTuple):
    """What candidates answered, as slices of JSON; the latter two are None when they did not come."""

    prompt: bytes
    tools: bytes | None = None
    token_ids: bytes | None = None


class Members(NamedTuple):
    """Candidates and what they answered.

    Attributes:
        candidates: in order of arrival.
        contexts: what they answered, each once.
        places: of each candidate, the position of its context.
    """

    candidates: Sequence[MemberView]
    contexts: Sequence[Context]
    places: Sequence[int]

    @classmethod
    def of_parts(cls, parts: Iterable[tuple[Context, Sequence[MemberView]]]) -> Members:
        """Put together what came in several records."""
        candidates: list[MemberView] = []
        positions: dict[Context, int] = {}
        places: list[int] = []
        for context, some in parts:
            place = positions.setdefault(context, len(positions))
            candidates += some
            places += [place] * len(some)
        return cls(candidates, list(positions), places)

    def scored(self) -> Members:
        """Return those with a score, and what they answered."""
        if None not in [candidate.score for candidate in self.candidates]:
            return self
        return self.of_parts(
            (self.contexts[place], (candidate,))
            for candidate, place in zip(self.candidates, self.places, strict=True)
            if candidate.score is not None
        )


def fingerprints(candidates: Iterable[MemberView]) -> dict[str, int]:
    """Return the fingerprints of candidates by their ids."""
    return {candidate.candidate_id: fingerprint(candidate) for candidate in candidates}


def fingerprint(candidate: MemberView) -> int:
    """Return a checksum by which an identical repeat differs from a contradictory one.

    Response, score and index make it: it is the same for a candidate that came alone and in a turn record.
    """
    index = candidate.candidate_index
    numbers = orjson.dumps((candidate.score, index and integer(index)))
    return crc32(numbers, crc32(candidate.response))
