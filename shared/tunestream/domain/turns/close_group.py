"""Closing a turn or a group of episodes: what it gives, what is kept of it, what is dropped."""

from __future__ import annotations

from tunestream.domain.effects import Effects, Outbound
from tunestream.domain.turns.episodes import close_episodes
from tunestream.domain.turns.memory import memory_name
from tunestream.domain.turns.partition_state import PartitionState
from tunestream.domain.turns.preferences import close_turn
from tunestream.domain.turns.run_state import EPISODES, TURN, GroupKey, RunState
from tunestream.events.trajectories import CloseReason, TrajectoryGroup

__all__ = ["close_group"]


def close_group(
    state: PartitionState, run: RunState, key: GroupKey, reason: CloseReason, at: int, effects: Effects
) -> None:
    """Emit a group's trajectories, drop its members from the state and remember their ids.

    Args:
        state: that holds the run.
        run: that holds the group.
        key: of the open group.
        reason: why it is closed.
        at: stream time of the decision, ms.
        effects: receives what is to be done.
    """
    _, kind, example, turn_id = key
    if kind == TURN:
        turn = state.remove_turn(run, example, turn_id)
        pairing = turn.rules.pairing
        assert pairing is not None
        _emit(state, close_turn(turn, pairing, run.run_id, reason), at, effects)
        closed = {memory_name(TURN, example, turn_id): turn.fingerprints}
        keys, rules = turn.keys, turn.rules
    else:
        episodes = state.remove_episodes(run, example)
        _emit(state, close_episodes(episodes, run.run_id, example, reason), at, effects)
        marks = episodes.fingerprints.items()
        closed = {memory_name(EPISODES, example, name): {name: mark} for name, mark in marks}
        keys, rules = episodes.keys, episodes.rules
    effects.changes.update(dict.fromkeys(keys))
    state.memory.add(run, closed, at, rules, effects)


def _emit(state: PartitionState, group: TrajectoryGroup, at: int, effects: Effects) -> None:
    effects.outbound.append(
        Outbound(
            topic="trajectories",
            body=group,
            id=group.group_id,
            time=at,
            key=(group.run_id,),
            extensions={"tsdigest": group.config_digest, "tspartition": str(state.partition)},
        )
    )
    effects.counts["closed_" + group.closed_by] += 1
