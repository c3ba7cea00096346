"""The group of a closed turn: its members once, and pairs of them.

Any language unfolds a pair into a trajectory as :attr:`PreferenceGroup.trajectories` does: see docs/wire.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tunestream.events.base import FiniteFloat, Identifier, Metadata, Sparse, Wire
from tunestream.events.messages import Prompt, Response, TokenIds, Tools
from tunestream.events.registry import event_type
from tunestream.events.trajectories import CloseReason

__all__ = ["GroupContext", "GroupMember", "GroupPair", "PairingRule", "PreferenceGroup"]


class GroupContext(Sparse):
    """What members of a turn answered; almost always the same for all."""

    prompt: Prompt
    tools: Tools | None = None
    token_ids: TokenIds | None = Field(default=None, description="of the prompt")


class GroupMember(Sparse):
    """One candidate of a closed turn."""

    id: Identifier
    index: int | None = Field(default=None, description="the agent's number for it; absent when it gave none")
    context: int = Field(default=0, ge=0, description="its position in the group's contexts")
    response: Response
    score: FiniteFloat
    policy_version: str | None = None
    token_ids: TokenIds | None = Field(default=None, description="of the response")
    metadata: Metadata = Field(default_factory=dict)


class PairingRule(Wire):
    """How the members were paired."""

    exhaustive: bool = Field(description="every better member with every worse one; else best with worst")
    reward: Literal["score_diff", "chosen_score"] = Field(description="what a pair's reward is")


GroupPair = Annotated[
    tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], FiniteFloat],
    Field(description="positions of the chosen and the rejected member, and the reward"),
]


@event_type("tunestream.trajectory_group.v2")
class PreferenceGroup(Sparse):
    """What one closed turn gives to training.

    Members are in order of arrival, pairs as they were made. ``pairs`` may be empty: a turn that made none
    was closed all the same, and ``skipped`` counts why by reason.
    """

    run_id: Identifier
    group_id: Identifier
    example_id: Identifier
    turn_id: str
    config_digest: str
    kind: Literal["preference"] = "preference"
    closed_by: CloseReason
    contexts: list[GroupContext]
    members: list[GroupMember]
    pairing: PairingRule
    pairs: list[GroupPair]
    unscored: int = Field(default=0, ge=0, description="candidates that got no score and are no members")
    skipped: dict[str, int] = Field(default_factory=dict)
