"""Preference pairs, trajectories and their groups.

Names and fields of DPOItem, EpisodeItem, Trajectory and TrajectoryCollection are those of
the NeMo Agent Toolkit's fine-tuning harness.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticKnownError

from tunestream.events.base import FiniteFloat, Identifier, Metadata, Sparse, Wire
from tunestream.events.messages import ChatMessage, Prompt, TokenIds, Tools
from tunestream.events.registry import event_type

__all__ = [
    "CloseReason",
    "DPOItem",
    "EpisodeItem",
    "EpisodeItemRole",
    "MemberScore",
    "PreferencePair",
    "Trajectory",
    "TrajectoryCollection",
    "TrajectoryGroup",
    "TrajectoryGroupRef",
]


class DPOItem(Sparse):
    """One preference: to ``prompt``, ``chosen_response`` is better than ``rejected_response``.

    The responses are the texts that the model wrote. A response with more than text, such as calls of tools,
    stands whole in ``chosen_message`` or ``rejected_message``.
    """

    prompt: Prompt
    chosen_response: str
    rejected_response: str
    tools: Tools | None = None
    chosen_message: ChatMessage | None = None
    rejected_message: ChatMessage | None = None
    prompt_token_ids: TokenIds | None = None
    chosen_token_ids: TokenIds | None = None
    rejected_token_ids: TokenIds | None = None


class EpisodeItemRole(StrEnum):
    """Who wrote an item of an episode."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    FUNCTION = "function"
    TOOL = "tool"
    ENVIRONMENT = "environment"
    OTHER = "other"


def _finite(logprobs: Any) -> Any:
    """JSON would write NaN and infinity as null, and the loss would show in training at the earliest."""
    waiting = [logprobs]
    while waiting:
        value = waiting.pop()
        if isinstance(value, float) and not math.isfinite(value):
            raise PydanticKnownError("finite_number")
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return logprobs


class EpisodeItem(Wire):
    """One message of a finished episode; an assistant's carries its token log-probabilities."""

    role: EpisodeItemRole
    content: str
    logprobs: Annotated[Any | None, AfterValidator(_finite)] = None
    metadata: Metadata | None = None

    @model_validator(mode="after")
    def _assistant_has_logprobs(self) -> Self:
        if self.role is EpisodeItemRole.ASSISTANT and self.logprobs is None:
            raise ValueError("logprobs must be provided for assistant role.")
        return self


class Trajectory(Wire):
    """One episode with its reward: a single preference, or a list of messages."""

    episode: list[DPOItem] | list[EpisodeItem]
    reward: FiniteFloat
    shaped_rewards: list[FiniteFloat] | None = None
    metadata: Metadata | None = None


class TrajectoryCollection(Wire):
    """Trajectories grouped by example: ``trajectories[group][index]``."""

    trajectories: list[list[Trajectory]]
    run_id: str


class PreferencePair(Wire):
    """A chosen and a rejected candidate of one turn; what :class:`DPOItem` may have stands last."""

    example_id: str
    turn_id: str
    prompt: Prompt
    chosen_response: str
    rejected_response: str
    chosen_score: FiniteFloat
    rejected_score: FiniteFloat
    score_diff: FiniteFloat
    chosen_index: int | None
    rejected_index: int | None
    reward: FiniteFloat
    tools: Tools | None = None
    chosen_message: ChatMessage | None = None
    rejected_message: ChatMessage | None = None
    prompt_token_ids: TokenIds | None = None
    chosen_token_ids: TokenIds | None = None
    rejected_token_ids: TokenIds | None = None


class CloseReason(StrEnum):
    """Why a turn (or a group of episodes) was closed."""

    COMPLETE = "complete"
    TURN_END = "turn_end"
    EXAMPLE_END = "example_end"
    TIMEOUT = "timeout"


class MemberScore(Wire):
    """The score of one candidate (or episode) of a group, in order of arrival."""

    id: Identifier
    index: int | None
    score: FiniteFloat
    policy_version: str | None = None


@event_type("tunestream.trajectory_group.v1")
class TrajectoryGroup(Wire):
    """What one closed turn, or one closed group of episodes, gives to training.

    ``trajectories`` may be empty: a turn that made no pair was closed all the same, and ``skipped``
    counts why by reason.
    """

    run_id: Identifier
    group_id: Identifier
    example_id: Identifier
    turn_id: str
    config_digest: str
    kind: Literal["preference", "episode"]
    closed_by: CloseReason
    scores: list[MemberScore]
    trajectories: list[Trajectory]
    skipped: dict[str, int] = Field(default_factory=dict)


@event_type("tunestream.trajectory_group_ref.v1")
class TrajectoryGroupRef(Wire):
    """Stands for a group whose body is too large for a record; the body is in the artifact store."""

    run_id: Identifier
    group_id: Identifier
    uri: str
    sha256: str
    size: int = Field(ge=0, description="bytes of the stored body")
