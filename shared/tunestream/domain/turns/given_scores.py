"""Candidates with the scores that they got after they came."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from tunestream.domain.scoring.given import OF_THE_REWARD_FUNCTION, CandidateScores
from tunestream.domain.scoring.turns import Scores
from tunestream.domain.turns.members import Members
from tunestream.events.views.candidates import MemberView

__all__ = ["GIVEN_SCORES", "with_scores"]

GIVEN_SCORES: Final = "given_scores"
"""Where a member's metadata has what people scored it, the first score first."""

_NAME: Final = f'"{GIVEN_SCORES}":'.encode()


def with_scores(members: Members, scores: Scores) -> Members:
    """Return a turn's candidates, those with the first given score that came without one.

    Args:
        members: in order of arrival.
        scores: by candidate id.
    """
    if not scores:
        return members
    candidates = [_scored(one, scores.get(one.candidate_id)) for one in members.candidates]
    return members._replace(candidates=candidates)


def _scored(candidate: MemberView, given: CandidateScores | None) -> MemberView:
    if given is None:
        return candidate
    score = given.scores[0].score if candidate.score is None else candidate.score
    metadata = candidate.raw_metadata
    by_people = any(one.source != OF_THE_REWARD_FUNCTION for one in given.scores)
    if by_people and _NAME not in metadata:
        metadata = _with_entry(metadata, b"[" + b",".join(one.to_json() for one in given.scores) + b"]")
    return replace(candidate, score=score, raw_metadata=metadata)


def _with_entry(metadata: bytes, value: bytes) -> bytes:
    """Return a JSON object, written without white space, with one entry more."""
    separator = b"" if metadata == b"{}" else b","
    return metadata[:-1] + separator + _NAME + value + b"}"
