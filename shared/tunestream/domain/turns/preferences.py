"""What a closed turn gives to training: one trajectory for each preference."""

from __future__ import annotations

from typing import Any

from tunestream.domain.turns.pairing import C, Pairing
from tunestream.events.messages import ChatMessage, Prompt
from tunestream.events.trajectories import DPOItem, Trajectory

__all__ = ["preference_pair", "preference_trajectory", "trl_row"]


def preference_trajectory(
    pairing: Pairing[C],
    *,
    example_id: str,
    turn_id: str,
    from_score_diff: bool = True,
    num_candidates: int | None = None,
    policy_version: str | None = None,
) -> Trajectory:
    """Make the trajectory of a pair; its reward is the difference, or the chosen one's score.

    ``num_candidates`` stands in the metadata of best-vs-worst pairs, in place of the candidates' own;
    ``policy_version`` stands there when it is known.
    """
    chosen, rejected, diff = pairing
    metadata: dict[str, Any] = {
        "dpo_type": "preference_pair",
        "score_diff": diff,
        "example_id": example_id,
        "turn_id": turn_id,
        "chosen_score": chosen.score,
        "rejected_score": rejected.score,
        "chosen_index": chosen.candidate_index,
        "rejected_index": rejected.candidate_index,
    }
    if num_candidates is None:
        metadata["chosen_raw_metadata"] = chosen.raw_metadata
        metadata["rejected_raw_metadata"] = rejected.raw_metadata
    else:
        metadata["num_candidates"] = num_candidates
    if policy_version is not None:
        metadata["policy_version"] = policy_version
    item = DPOItem.of_valid(
        prompt=chosen.prompt, chosen_response=chosen.response, rejected_response=rejected.response
    )
    reward = diff if from_score_diff else chosen.score
    return Trajectory.of_valid(episode=[item], reward=reward, shaped_rewards=None, metadata=metadata)


def preference_pair(trajectory: Trajectory) -> dict[str, Any]:
    """Return the flat form of a preference, the fields of :class:`~tunestream.events.PreferencePair`."""
    item, metadata = _preference(trajectory)
    return {
        "example_id": metadata["example_id"],
        "turn_id": metadata["turn_id"],
        "prompt": _plain(item.prompt),
        "chosen_response": item.chosen_response,
        "rejected_response": item.rejected_response,
        "chosen_score": metadata["chosen_score"],
        "rejected_score": metadata["rejected_score"],
        "score_diff": metadata["score_diff"],
        "chosen_index": metadata["chosen_index"],
        "rejected_index": metadata["rejected_index"],
        "reward": trajectory.reward,
    }


def trl_row(trajectory: Trajectory) -> dict[str, Any]:
    """Return TRL's preference row: plain text where prompt and responses are that, else conversational."""
    item, _ = _preference(trajectory)
    prompt, chosen, rejected = item.prompt, item.chosen_message, item.rejected_message
    if isinstance(prompt, str) and not (chosen or rejected or item.tools):
        return {"prompt": prompt, "chosen": item.chosen_response, "rejected": item.rejected_response}
    return {
        "prompt": [{"role": "user", "content": prompt}] if isinstance(prompt, str) else _plain(prompt),
        "chosen": [_answer(item.chosen_response, chosen)],
        "rejected": [_answer(item.rejected_response, rejected)],
        **({"tools": item.tools} if item.tools else {}),
    }


def _answer(text: str, message: ChatMessage | None) -> dict[str, Any]:
    return {"role": "assistant", "content": text} if message is None else message.model_dump()


def _preference(trajectory: Trajectory) -> tuple[DPOItem, dict[str, Any]]:
    item = trajectory.episode[0]
    assert isinstance(item, DPOItem)
    return item, trajectory.metadata or {}


def _plain(prompt: Prompt) -> str | list[dict[str, Any]]:
    if isinstance(prompt, str):
        return prompt
    return [
        message.model_dump()
        if isinstance(message, ChatMessage)
        else {"role": message.role, "content": message.content}
        for message in prompt
    ]
