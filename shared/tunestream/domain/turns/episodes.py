"""Groups of finished episodes of one example."""

from __future__ import annotations

from collections import Counter

from tunestream.domain.turns.open_episodes import OpenEpisodes
from tunestream.events.ids import group_id
from tunestream.events.trajectories import (
    CloseReason,
    EpisodeItem,
    EpisodeItemRole,
    MemberScore,
    Trajectory,
    TrajectoryGroup,
)
from tunestream.events.ttc import EpisodeStep

__all__ = ["close_episodes"]


def close_episodes(group: OpenEpisodes, run_id: str, example_id: str, reason: CloseReason) -> TrajectoryGroup:
    """Make the group of trajectories of the collected episodes.

    Logprobs and tool messages are kept. Assistant messages without logprobs cannot be trained on and
    are left out; an episode without any other, or of fewer than two messages, gives no trajectory.
    """
    members = list(group)
    skipped: Counter[str] = Counter()
    trajectories = []
    for generation, member in enumerate(members):
        items = [item for item in member.items if _usable(item)]
        if why := _why_not(items):
            skipped[why] += 1
        else:
            trajectories.append(_trajectory(member, items, generation))
    return TrajectoryGroup(
        run_id=run_id,
        group_id=group_id(run_id, example_id, "", members[0].episode_id),
        example_id=example_id,
        turn_id="",
        config_digest=group.config_digest,
        kind="episode",
        closed_by=reason,
        scores=[
            MemberScore(
                id=member.episode_id, index=None, score=member.reward, policy_version=member.policy_version
            )
            for member in members
        ],
        trajectories=trajectories,
        skipped=dict(skipped),
    )


def _usable(item: EpisodeItem) -> bool:
    return item.role is not EpisodeItemRole.ASSISTANT or bool(item.logprobs)


def _why_not(items: list[EpisodeItem]) -> str | None:
    if not any(item.role is EpisodeItemRole.ASSISTANT for item in items):
        return "no_logprobs"
    return "short_episode" if len(items) < 2 else None


def _trajectory(member: EpisodeStep, items: list[EpisodeItem], generation: int) -> Trajectory:
    metadata = {
        **member.raw_metadata,
        "example_id": member.example_id,
        "episode_id": member.episode_id,
        "generation": generation,
    }
    if member.policy_version is not None:
        metadata["policy_version"] = member.policy_version
    return Trajectory(episode=items, reward=member.reward, metadata=metadata)
