"""Groups as they go out: those of episodes, closed here, and those of turns."""

from __future__ import annotations

from tunestream.domain.effects import Effects, Outbound, Spliced
from tunestream.domain.turns.episodes import close_episodes
from tunestream.domain.turns.memory import memory_name
from tunestream.domain.turns.partition_state import PartitionState
from tunestream.domain.turns.run_state import EPISODES, RunState
from tunestream.events.trajectories import CloseReason, TrajectoryGroup

__all__ = ["close_episode_group", "emit_group"]


def close_episode_group(
    state: PartitionState, run: RunState, example: str, reason: CloseReason, at: int, effects: Effects
) -> None:
    """Take an open group of episodes out of the state, emit it, and remember its episodes.

    Args:
        state: that holds the run.
        run: that holds the group.
        example: of the episodes.
        reason: why the group is closed.
        at: stream time of the decision, ms.
        effects: receives what is to be done.
    """
    episodes = state.remove_episodes(run, example)
    group = close_episodes(episodes, run.run_id, example, reason)
    emit_group(state, group, group.group_id, group.config_digest, group.run_id, reason, at, effects)
    closed = {
        memory_name(EPISODES, example, name): {name: mark} for name, mark in episodes.fingerprints.items()
    }
    effects.changes.update(dict.fromkeys(episodes.keys))
    state.memory.add(run, closed, at, episodes.rules, effects)


def emit_group(
    state: PartitionState,
    body: Spliced | TrajectoryGroup,
    group_id: str,
    config_digest: str,
    run_id: str,
    reason: CloseReason,
    at: int,
    effects: Effects,
) -> None:
    """Send a closed group, decided at stream time ``at``, on to the gate."""
    effects.outbound.append(
        Outbound(
            topic="trajectories",
            body=body,
            id=group_id,
            time=at,
            key=(run_id,),
            extensions={"tsdigest": config_digest, "tspartition": str(state.partition)},
        )
    )
    effects.counts["closed_" + reason] += 1
