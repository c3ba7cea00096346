"""Scores that come after their candidates.

People and other systems publish a :class:`TTCScore`, which the collector makes a :class:`ScoreStep`. A run's
reward function is asked by a :class:`ScoreRequest`, a whole turn, and answers with a :class:`ScoreAnswer`.
"""

from __future__ import annotations

from typing import Final

from pydantic import Field

from tunestream.events.base import FiniteFloat, Identifier, Metadata, SentMetadata, Sparse, Wire
from tunestream.events.groups import GroupContext
from tunestream.events.messages import Response, TokenIds
from tunestream.events.registry import event_type

__all__ = [
    "EVERYWHERE",
    "AskedMember",
    "ScoreAnswer",
    "ScoreAnswerRef",
    "ScoreRequest",
    "ScoreRequestRef",
    "ScoreStep",
    "TTCScore",
]


EVERYWHERE: Final = "tseverywhere"
"""The extension ``ce_tseverywhere: 1`` of a score that goes to every partition of ``ttc.events``, since who
scores does not know which one the turn lies in: all copies but one meet no turn."""


@event_type("tunestream.ttc.score.v1")
class TTCScore(Sparse):
    """``ttc.events``: the score of a candidate that was published without one.

    The first score of a candidate counts, of any source; later ones are kept beside it.
    """

    run_id: Identifier
    example_id: Identifier
    turn_id: Identifier
    candidate_id: Identifier = Field(description="as it was published")
    score: FiniteFloat
    source: Identifier = Field(description="who scored, e.g. a person or a system")
    metadata: SentMetadata | None = None


@event_type("tunestream.score.v1")
class ScoreStep(Sparse):
    """``ttc.candidates``: a score that the collector validated; ``candidate_id`` is the deterministic id."""

    run_id: Identifier
    example_id: Identifier
    turn_id: str
    candidate_id: Identifier
    score: FiniteFloat
    source: Identifier
    raw_metadata: Metadata = Field(default_factory=dict)


class AskedMember(Sparse):
    """A candidate of a turn that waits for scores, or that got them.

    In an answer every member that had no score has one, or ``none``, the reason why it could not be scored.
    """

    id: Identifier
    index: int | None = None
    context: int = Field(default=0, ge=0, description="its position in the contexts")
    response: Response
    score: FiniteFloat | None = None
    policy_version: str | None = None
    token_ids: TokenIds | None = None
    metadata: Metadata = Field(default_factory=dict)
    none: str | None = Field(default=None, description="why it has no score")


class _ScoredTurn(Sparse):
    run_id: Identifier
    example_id: Identifier
    turn_id: str
    request_id: Identifier = Field(description="names the turn as it was asked about; an answer repeats it")
    contexts: list[GroupContext] = Field(min_length=1)
    members: list[AskedMember] = Field(min_length=1)


@event_type("tunestream.unscored.v1")
class ScoreRequest(_ScoredTurn):
    """``ttc.unscored``: a complete turn that waits for the run's reward function."""


@event_type("tunestream.scores.v1")
class ScoreAnswer(_ScoredTurn):
    """``ttc.scores``: the turn again, scored. An answer to no open request is dropped and counted."""


class _ScoredTurnRef(Wire):
    run_id: Identifier
    example_id: Identifier
    turn_id: str
    request_id: Identifier
    uri: str
    sha256: str
    size: int = Field(ge=0, description="bytes of the stored body")


@event_type("tunestream.unscored_ref.v1")
class ScoreRequestRef(_ScoredTurnRef):
    """Stands for a request whose body is too large for a record; the body is in the artifact store."""


@event_type("tunestream.scores_ref.v1")
class ScoreAnswerRef(_ScoredTurnRef):
    """Stands for an answer whose body is too large for a record; the body is in the artifact store."""
