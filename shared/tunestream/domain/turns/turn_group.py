"""The body of a closed turn's group, put together of the slices that its candidates came as."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from tunestream.domain.scoring.turns import NO_SCORES, Scores
from tunestream.domain.turns.given_scores import with_scores
from tunestream.domain.turns.members import Context, Member
from tunestream.domain.turns.open_turn import OpenTurn
from tunestream.domain.turns.pairs import pair_up
from tunestream.events.groups import PreferenceGroup
from tunestream.events.ids import group_id
from tunestream.events.trajectories import CloseReason, TrajectoryGroup
from tunestream.events.views.slices import integer

__all__ = ["contexts_of_members", "expanded_group", "group_of_turn", "members_of"]


def group_of_turn(
    turn: OpenTurn,
    run_id: str,
    example_id: str,
    turn_id: str,
    reason: CloseReason,
    scores_given: Scores = NO_SCORES,
) -> tuple[str, bytes]:
    """Return the id and the body of a turn's group, as :class:`PreferenceGroup` would write it.

    ``scores_given`` are those that candidates got after they came, by id.
    """
    every = with_scores(turn, scores_given)
    members = [member for member in every if member.candidate.score is not None]
    contexts, places = contexts_of_members(members)
    scores = [score for member in members if (score := member.candidate.score) is not None]
    pairing = turn.rules.pairing
    assert pairing is not None
    pairs = pair_up(scores, [member.candidate.response for member in members], places, pairing)
    by_difference = turn.rules.reward_from_score_diff
    name = group_id(run_id, example_id, turn_id, every[0].candidate.candidate_id)
    body = {
        "run_id": run_id,
        "group_id": name,
        "example_id": example_id,
        "turn_id": turn_id,
        "config_digest": turn.config_digest,
        "kind": "preference",
        "closed_by": reason,
        "contexts": contexts,
        "members": members_of(members, places),
        "pairing": {
            "exhaustive": pairing.exhaustive,
            "reward": "score_diff" if by_difference else "chosen_score",
        },
        "pairs": pairs.kept if by_difference else [(a, b, scores[a]) for a, b, _ in pairs.kept],
        "unscored": len(every) - len(members),
        "skipped": pairs.skipped,
    }
    return name, orjson.dumps(body)


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


def contexts_of_members(members: Sequence[Member]) -> tuple[list[dict[str, Any]], list[int]]:
    """Return what candidates answered, as contexts of a group, and the position of each one's context."""
    positions = {context: at for at, context in enumerate(dict.fromkeys(one.context for one in members))}
    return [_context(context) for context in positions], [positions[one.context] for one in members]


def _context(context: Context) -> dict[str, Any]:
    values: dict[str, Any] = {"prompt": orjson.Fragment(context.prompt)}
    if context.tools is not None:
        values["tools"] = orjson.Fragment(context.tools)
    if context.token_ids is not None:
        values["token_ids"] = orjson.Fragment(context.token_ids)
    return values


def members_of(members: Sequence[Member], places: Sequence[int]) -> list[dict[str, Any]]:
    """Return candidates as members of a group, with the positions of their contexts."""
    written = []
    for (candidate, _), place in zip(members, places, strict=True):
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
        written.append(values)
    return written
