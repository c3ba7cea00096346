"""The body of a closed turn's group, put together of the slices that its candidates came as."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from tunestream.domain.scoring.turns import NO_SCORES, Scores
from tunestream.domain.turns.given_scores import with_scores
from tunestream.domain.turns.members import Context, Members
from tunestream.domain.turns.open_turn import OpenTurn
from tunestream.domain.turns.pairing import PairRules
from tunestream.domain.turns.pairs import pair_up
from tunestream.events.groups import PreferenceGroup
from tunestream.events.ids import group_id
from tunestream.events.trajectories import CloseReason, TrajectoryGroup
from tunestream.events.views.candidates import MemberView
from tunestream.events.views.slices import integer

__all__ = ["TurnGroup", "expanded_group", "group_of_turn", "written_contexts", "written_members"]


class TurnGroup(NamedTuple):
    """What becomes of a turn.

    Attributes:
        run_id: of the turn.
        example_id: of the turn.
        turn_id: of that example.
        config_digest: of the configuration that the turn opened with.
        closed_by: why it takes no more candidates.
        first: id of the candidate that came first.
        members: the candidates with a score.
        pairing: how they were paired.
        by_difference: whether a pair's reward is the difference of its scores, not the chosen one's score.
        pairs: positions of the chosen and of the rejected member, and the reward.
        unscored: how many candidates have no score.
        skipped: how many pairs were not made, by reason.
    """

    run_id: str
    example_id: str
    turn_id: str
    config_digest: str
    closed_by: CloseReason
    first: str
    members: Members
    pairing: PairRules
    by_difference: bool
    pairs: list[tuple[int, int, float]]
    unscored: int
    skipped: dict[str, int]

    def id(self) -> str:
        """Return the group's id."""
        return group_id(self.run_id, self.example_id, self.turn_id, self.first)

    def encode(self) -> bytes:
        """Return its body, as :class:`PreferenceGroup` would write it."""
        body = {
            "run_id": self.run_id,
            "group_id": self.id(),
            "example_id": self.example_id,
            "turn_id": self.turn_id,
            "config_digest": self.config_digest,
            "kind": "preference",
            "closed_by": self.closed_by,
            "contexts": written_contexts(self.members),
            "members": written_members(self.members),
            "pairing": {
                "exhaustive": self.pairing.exhaustive,
                "reward": "score_diff" if self.by_difference else "chosen_score",
            },
            "pairs": self.pairs,
            "unscored": self.unscored,
            "skipped": self.skipped,
        }
        return orjson.dumps(body)


def group_of_turn(
    turn: OpenTurn,
    run_id: str,
    example_id: str,
    turn_id: str,
    reason: CloseReason,
    scores_given: Scores = NO_SCORES,
) -> TurnGroup:
    """Pair the candidates of a turn.

    ``scores_given`` are those that candidates got after they came, by id.
    """
    every = with_scores(turn.members, scores_given)
    members = every.scored()
    candidates = members.candidates
    scores = [candidate.score for candidate in candidates if candidate.score is not None]
    responses = [candidate.response for candidate in candidates]
    pairing = turn.rules.pairing
    assert pairing is not None
    pairs = pair_up(scores, responses, members.places, pairing)
    by_difference = turn.rules.reward_from_score_diff
    return TurnGroup(
        run_id,
        example_id,
        turn_id,
        turn.config_digest,
        reason,
        every.candidates[0].candidate_id,
        members,
        pairing,
        by_difference,
        pairs.kept if by_difference else [(a, b, scores[a]) for a, b, _ in pairs.kept],
        len(every.candidates) - len(candidates),
        pairs.skipped,
    )


def expanded_group(value: bytes) -> TrajectoryGroup:
    """Return the group with every pair spelt out, version 1 of its body."""
    group = PreferenceGroup.of_service(value)
    return TrajectoryGroup.of_valid(
        run_id=group.run_id,
        group_id=group.group_id,
        example_id=group.example_id,
        turn_id=group.turn_id,
        config_digest=group.config_digest,
        kind=group.kind,
        closed_by=group.closed_by,
        scores=group.scores,
        trajectories=group.trajectories,
        skipped=group.skipped,
    )


def written_contexts(members: Members) -> list[dict[str, Any]]:
    """Return what candidates answered, as contexts of a group."""
    return [_context(context) for context in members.contexts]


def _context(context: Context) -> dict[str, Any]:
    values: dict[str, Any] = {"prompt": orjson.Fragment(context.prompt)}
    if context.tools is not None:
        values["tools"] = orjson.Fragment(context.tools)
    if context.token_ids is not None:
        values["token_ids"] = orjson.Fragment(context.token_ids)
    return values


def written_members(members: Members) -> list[dict[str, Any]]:
    """Return candidates as members of a group, with the positions of their contexts."""
    return [_member(*each) for each in zip(members.candidates, members.places, strict=True)]


def _member(candidate: MemberView, place: int) -> dict[str, Any]:
    values: dict[str, Any] = {"id": candidate.candidate_id}
    if candidate.candidate_index is not None:
        values["index"] = integer(candidate.candidate_index)
    values["context"] = place
    values["response"] = orjson.Fragment(candidate.response)
    if candidate.score is not None:
        values["score"] = candidate.score
    if candidate.policy_version is not None:
        values["policy_version"] = candidate.policy_version
    if candidate.token_ids is not None:
        values["token_ids"] = orjson.Fragment(candidate.token_ids)
    values["metadata"] = orjson.Fragment(candidate.raw_metadata)
    return values
