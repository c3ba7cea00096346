"""A turn as one record: as agents publish it, and as the collector writes it.

An agent publishes a :class:`TTCTurn`; the collector validates it, gives deterministic ids and writes a
:class:`TurnStep`. A turn is published whole, or in parts: those with ``complete: false`` are joined with
what else comes of the turn, as records of turns or as single candidates.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, GetPydanticSchema, ValidationError
from pydantic_core import CoreSchema, core_schema
from typing_extensions import override

from tunestream.events.base import FiniteFloat, Identifier, Metadata, SentMetadata, Sparse
from tunestream.events.messages import Prompt, Response, TokenIds, Tools
from tunestream.events.registry import event_type
from tunestream.events.ttc import PublishedPrompt, PublishedResponse

__all__ = ["ReceivedTurn", "TTCTurn", "TTCTurnCandidate", "TurnMember", "TurnStep"]


class TTCTurnCandidate(Sparse):
    """One candidate of a published turn; without a score where the run's scores come later."""

    candidate_id: Identifier = Field(description="unique within the turn; a repeat counts once")
    candidate_index: int | None = None
    response: PublishedResponse
    score: FiniteFloat | None = None
    policy_version: str | None = Field(default=None, description="by default the turn's")
    token_ids: TokenIds | None = Field(default=None, description="of the response")
    metadata: SentMetadata | None = None


@event_type("tunestream.ttc.turn.v1")
class TTCTurn(Sparse):
    """``ttc.events``: a turn's prompt and its candidates, as an agent publishes them.

    A fault of the envelope or the prompt refuses the turn; a fault of a candidate leaves that one out.
    """

    run_id: Identifier
    example_id: Identifier
    turn_id: Identifier
    prompt: PublishedPrompt
    tools: Tools | None = None
    prompt_token_ids: TokenIds | None = None
    candidates: list[TTCTurnCandidate] = Field(min_length=1)
    complete: bool = Field(default=True, description="no more candidates come for this turn")
    expected_candidates: int | None = Field(default=None, ge=1)
    policy_version: str | None = Field(default=None, description="of candidates that name none")

    @classmethod
    @override
    def received(cls) -> type[ReceivedTurn]:
        return ReceivedTurn


def _or_fault(value: Any, read: core_schema.ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError as error:
        return error


def _each(_: Any, schema_of: Any) -> CoreSchema:
    return core_schema.no_info_wrap_validator_function(_or_fault, schema_of(TTCTurnCandidate))


_Received = Annotated[TTCTurnCandidate | ValidationError, GetPydanticSchema(_each)]


class ReceivedTurn(TTCTurn):
    """A published turn as the collector reads it: in the place of a candidate at fault stands its error."""

    candidates: list[_Received] = Field(min_length=1)  # type: ignore[assignment]


class TurnMember(Sparse):
    """A candidate that the collector validated; ``candidate_id`` is the deterministic id."""

    candidate_id: Identifier
    candidate_index: int | None = None
    response: Response
    score: FiniteFloat | None = None
    policy_version: str | None = None
    token_ids: TokenIds | None = None
    raw_metadata: Metadata = Field(default_factory=dict)


@event_type("tunestream.turn.v1")
class TurnStep(Sparse):
    """``ttc.candidates``: candidates of one turn that the collector validated, all to the same prompt.

    With ``complete`` they are all of the turn, together with those that came before. A single candidate
    that :class:`~tunestream.events.ttc.CandidateStep` cannot hold, such as one without a score, is a turn
    of one that is not complete.
    """

    run_id: Identifier
    example_id: Identifier
    turn_id: str
    prompt: Prompt
    tools: Tools | None = None
    prompt_token_ids: TokenIds | None = None
    candidates: list[TurnMember] = Field(min_length=1)
    complete: bool
    expected_candidates: int | None = None
