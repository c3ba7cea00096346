"""The group of a closed turn: its members once, and pairs of them.

Any language unfolds a pair into a trajectory as :attr:`PreferenceGroup.trajectories` does: see docs/wire.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from tunestream.events.base import FiniteFloat, Identifier, Metadata, Sparse, Wire
from tunestream.events.messages import ChatMessage, Prompt, Response, TokenIds, Tools, text_of
from tunestream.events.registry import event_type
from tunestream.events.trajectories import CloseReason, DPOItem, MemberScore, Trajectory

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

    @property
    def scores(self) -> list[MemberScore]:
        """The members' scores, in order of arrival."""
        return [
            MemberScore.of_valid(
                id=member.id, index=member.index, score=member.score, policy_version=member.policy_version
            )
            for member in self.members
        ]

    @property
    def trajectories(self) -> list[Trajectory]:
        """The trajectories of the pairs, in order; each use makes them."""
        return list(self.unfold())

    def unfold(self) -> Iterator[Trajectory]:
        """Make the trajectories of the pairs one by one, as version 1 of a group spells them out."""
        versions = [member.policy_version for member in self.members if member.policy_version is not None]
        for chosen, rejected, reward in self.pairs:
            best, worst = self.members[chosen], self.members[rejected]
            yield Trajectory.of_valid(
                episode=[self._item(best, worst)],
                reward=reward,
                shaped_rewards=None,
                metadata=self._metadata(best, worst, versions),
            )

    def _item(self, chosen: GroupMember, rejected: GroupMember) -> DPOItem:
        context = self.contexts[chosen.context]
        return DPOItem.of_valid(
            prompt=context.prompt,
            chosen_response=text_of(chosen.response),
            rejected_response=text_of(rejected.response),
            tools=context.tools,
            chosen_message=_message(chosen.response),
            rejected_message=_message(rejected.response),
            prompt_token_ids=context.token_ids,
            chosen_token_ids=chosen.token_ids,
            rejected_token_ids=rejected.token_ids,
        )

    def _metadata(self, chosen: GroupMember, rejected: GroupMember, versions: Iterable[str]) -> Metadata:
        metadata: Metadata = {
            "dpo_type": "preference_pair",
            "score_diff": chosen.score - rejected.score,
            "example_id": self.example_id,
            "turn_id": self.turn_id,
            "chosen_score": chosen.score,
            "rejected_score": rejected.score,
            "chosen_index": chosen.index,
            "rejected_index": rejected.index,
        }
        if self.pairing.exhaustive:
            metadata["chosen_raw_metadata"] = chosen.metadata
            metadata["rejected_raw_metadata"] = rejected.metadata
        else:
            metadata["num_candidates"] = len(self.members)
        known = {chosen.policy_version, rejected.policy_version}
        oldest = next((version for version in versions if version in known), None)
        if oldest is not None:
            metadata["policy_version"] = oldest
        return metadata


def _message(response: Response) -> ChatMessage | None:
    return None if isinstance(response, str) else response
