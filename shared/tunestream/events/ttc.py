"""What agents publish (``ttc.events``) and what the collector makes of it (``ttc.candidates``).

Names that begin with TTC are what agents publish: :class:`TTCCandidate`, :class:`TTCTurnEnd`,
:class:`TTCExampleEnd`, :class:`TTCEpisode`. The collector validates them, gives deterministic ids and writes
:class:`CandidateStep` (the reference's name), :class:`TurnEnd`, :class:`ExampleEnd` and
:class:`EpisodeStep`. All stages behind it read the latter alone.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from tunestream.events.base import FiniteFloat, Foreign, Identifier, Metadata, SentMetadata, Wire, kept
from tunestream.events.messages import Message, Prompt
from tunestream.events.registry import event_type
from tunestream.events.trajectories import EpisodeItem

__all__ = [
    "EVERY_RUN",
    "CandidateStep",
    "EpisodeStep",
    "ExampleEnd",
    "PublishedPrompt",
    "PublishedResponse",
    "TTCCandidate",
    "TTCEpisode",
    "TTCEventData",
    "TTCExampleEnd",
    "TTCTurnEnd",
    "Tick",
    "TurnEnd",
]


EVERY_RUN: Final = "*"
"""Stands where a record needs a run, and all of the partition are meant."""


def _kept_items(items: list[EpisodeItem]) -> list[EpisodeItem]:
    for number, item in enumerate(items):
        kept({f"items.{number}": {"metadata": item.metadata, "logprobs": item.logprobs}})
    return items


def _text_or_messages(value: object) -> object:
    if isinstance(value, str | list):
        return value
    raise PydanticCustomError("messages_type", "send text, or a list of messages with role and content")


def _text_or_message(value: object) -> object:
    if isinstance(value, str | list | dict):
        return value
    raise PydanticCustomError("message_type", "send text, or one assistant message")


PublishedPrompt = Annotated[
    str | list[Message] | list[dict[str, Any]],
    Field(
        union_mode="left_to_right",
        description="text, or messages of the OpenAI chat API in any of its forms; the collector reads them",
    ),
    BeforeValidator(_text_or_messages),
]
"""A prompt as agents publish it: messages that are not in our own form are left to the collector."""

PublishedResponse = Annotated[
    str | dict[str, Any] | list[dict[str, Any]],
    Field(union_mode="left_to_right", description="text, or one assistant message with text alone"),
    BeforeValidator(_text_or_message),
]
"""A response as agents publish it."""


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
    """``ttc.events``: one scored candidate response to a turn's prompt, as an agent publishes it."""

    run_id: Identifier
    example_id: Identifier
    turn_id: Identifier
    candidate_id: Identifier = Field(description="unique within the turn; a repeat counts once")
    candidate_index: int | None = None
    prompt: PublishedPrompt
    response: PublishedResponse
    score: FiniteFloat
    expected_candidates: int | None = Field(default=None, ge=1)
    policy_version: str | None = None
    metadata: SentMetadata | None = None


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
    items: Annotated[list[EpisodeItem], AfterValidator(_kept_items)] = Field(min_length=1)
    reward: FiniteFloat
    policy_version: str | None = None
    metadata: SentMetadata | None = None


@event_type("tunestream.candidate.v1")
class CandidateStep(Wire):
    """``ttc.candidates``: a candidate that the collector validated.

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
class TurnEnd(Wire):
    """``ttc.candidates``: a validated end of turn."""

    run_id: Identifier
    example_id: Identifier
    turn_id: Identifier


@event_type("tunestream.example_end.v1")
class ExampleEnd(Wire):
    """``ttc.candidates``: a validated end of example."""

    run_id: Identifier
    example_id: Identifier


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
    """``ttc.candidates`` and ``trajectories``: stream time went on, for all runs of the partition.

    The advanced stream time is the record's ``ce_time``. The run is ``*``; earlier releases wrote a tick for
    each run, which counts as one for all.
    """

    run_id: Identifier
