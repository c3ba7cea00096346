"""What agents publish (``ttc.events``) and what the collector makes of it (``ttc.candidates``)."""

from __future__ import annotations

from pydantic import Field

from tunestream.events.base import FiniteFloat, Foreign, Identifier, Metadata, Wire
from tunestream.events.registry import event_type
from tunestream.events.trajectories import EpisodeItem, Prompt

__all__ = [
    "CandidateStep",
    "EpisodeStep",
    "ExampleEnd",
    "TTCCandidate",
    "TTCEpisode",
    "TTCEventData",
    "TTCExampleEnd",
    "TTCTurnEnd",
    "Tick",
    "TurnEnd",
]


class TTCEventData(Foreign):
    """The ``data`` of a NAT ``TTC_END`` step."""

    input: object | None = None
    output: object | None = None
    chunk: object | None = None
    payload: object | None = None
    turn_id: str | None = None
    turn_index: int | None = None
    candidate_index: int | None = None
    score: FiniteFloat | None = None


@event_type("tunestream.ttc.candidate.v1")
class TTCCandidate(Wire):
    """``ttc.events``: one scored candidate response to a turn's prompt."""

    run_id: Identifier
    example_id: Identifier
    turn_id: Identifier
    candidate_id: Identifier = Field(description="unique within the turn; a repeat counts once")
    candidate_index: int | None = None
    prompt: Prompt
    response: str
    score: FiniteFloat
    expected_candidates: int | None = Field(default=None, ge=1)
    policy_version: str | None = None
    metadata: Metadata | None = None


@event_type("tunestream.ttc.turn_end.v1")
class TTCTurnEnd(Wire):
    """``ttc.events``: no more candidates come for this turn."""

    run_id: Identifier
    example_id: Identifier
    turn_id: Identifier


@event_type("tunestream.ttc.example_end.v1")
class TTCExampleEnd(Wire):
    """``ttc.events``: no more candidates come for the turns of this example that are open now."""

    run_id: Identifier
    example_id: Identifier


@event_type("tunestream.ttc.episode.v1")
class TTCEpisode(Wire):
    """``ttc.events``: one finished episode of an example with its reward."""

    run_id: Identifier
    example_id: Identifier
    episode_id: Identifier = Field(description="unique within the example; a repeat counts once")
    items: list[EpisodeItem] = Field(min_length=1)
    reward: FiniteFloat
    policy_version: str | None = None
    metadata: Metadata | None = None


@event_type("tunestream.candidate.v1")
class CandidateStep(Wire):
    """``ttc.candidates``: a validated candidate.

    ``candidate_id`` is the deterministic id; ``candidate_index`` is None when the agent gave none.
    """

    run_id: Identifier
    example_id: Identifier
    turn_id: str
    candidate_id: Identifier
    candidate_index: int | None
    prompt: Prompt
    response: str
    score: FiniteFloat
    expected_candidates: int | None = None
    policy_version: str | None = None
    raw_metadata: Metadata = Field(default_factory=dict)


@event_type("tunestream.turn_end.v1")
class TurnEnd(TTCTurnEnd):
    """``ttc.candidates``: a validated end of turn."""


@event_type("tunestream.example_end.v1")
class ExampleEnd(TTCExampleEnd):
    """``ttc.candidates``: a validated end of example."""


@event_type("tunestream.episode.v1")
class EpisodeStep(Wire):
    """``ttc.candidates``: a validated episode; ``episode_id`` is the deterministic id."""

    run_id: Identifier
    example_id: Identifier
    episode_id: Identifier
    items: list[EpisodeItem]
    reward: FiniteFloat
    policy_version: str | None = None
    raw_metadata: Metadata = Field(default_factory=dict)


@event_type("tunestream.tick.v1")
class Tick(Wire):
    """``ttc.candidates`` and ``trajectories``: the run was silent, and stream time went on.

    The advanced stream time is the record's ``ce_time``.
    """

    run_id: Identifier
