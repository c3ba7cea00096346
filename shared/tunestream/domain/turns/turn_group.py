"""The body of a closed turn's group, put together of the slices that its candidates came as."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from tunestream.domain.turns.members import Context, Member
from tunestream.domain.turns.open_turn import OpenTurn
from tunestream.domain.turns.pairs import pair_up
from tunestream.events.groups import PreferenceGroup
from tunestream.events.ids import group_id
from tunestream.events.trajectories import CloseReason, TrajectoryGroup

__all__ = ["expanded_group", "group_of_turn"]


def group_of_turn(
    turn: OpenTurn, run_id: str, example_id: str, turn_id: str, reason: CloseReason
) -> tuple[str, bytes]:
    """Return the id and the body of a turn's group, as :class:`PreferenceGroup` would write it."""
    every = list(turn)
    members = [member for member in every if member.candidate.score is not None]
    contexts = {context: at for at, context in enumerate(dict.fromkeys(one.context for one in members))}
    places = [contexts[member.context] for member in members]
    scores = [member.candidate.score or 0.0 for member in members]
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
        "contexts": [_context(context) for context in contexts],
        "members": _members(members, places),
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


def _context(context: Context) -> dict[str, Any]:
    values: dict[str, Any] = {"prompt": orjson.Fragment(context.prompt)}
    if context.tools is not None:
        values["tools"] = orjson.Fragment(context.tools)
    if context.token_ids is not None:
        values["token_ids"] = orjson.Fragment(context.token_ids)
    return values


def _members(members: Sequence[Member], places: Sequence[int]) -> list[dict[str, Any]]:
    written = []
    for (candidate, _), place in zip(members, places, strict=True):
        values: dict[str, Any] = {"id": candidate.candidate_id}
        if candidate.candidate_index is not None:
            values["index"] = candidate.candidate_index
        values["context"] = place
        values["response"] = orjson.Fragment(candidate.response)
        values["score"] = candidate.score
        if candidate.policy_version is not None:
            values["policy_version"] = candidate.policy_version
        if candidate.token_ids is not None:
            values["token_ids"] = orjson.Fragment(candidate.token_ids)
        values["metadata"] = orjson.Fragment(candidate.raw_metadata)
        written.append(values)
    return written
