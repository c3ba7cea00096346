"""Closing a turn or a group of episodes: what it gives, what is kept of it, what is dropped."""

from __future__ import annotations

from tunestream.domain.effects import Effects, Outbound, Spliced
from tunestream.domain.turns.episodes import close_episodes
from tunestream.domain.turns.memory import memory_name
from tunestream.domain.turns.open_turn import OpenTurn
from tunestream.domain.turns.partition_state import PartitionState
from tunestream.domain.turns.run_state import EPISODES, TURN, GroupKey, RunState
from tunestream.domain.turns.turn_group import expanded_group, group_of_turn
from tunestream.events.runs import TURN_FORMAT
from tunestream.events.trajectories import CloseReason, TrajectoryGroup

__all__ = ["close_group", "close_turn"]


def close_group(
    state: PartitionState,
    run: RunState,
    key: GroupKey,
    reason: CloseReason,
    at: int,
    effects: Effects,
    number: int,
) -> None:
    """Take a group out of the state and close it.

    Args:
        state: that holds the run.
        run: that holds the group.
        key: of the open group.
        reason: why it is closed.
        at: stream time of the decision, ms.
        effects: receives what is to be done.
        number: the format that is written.
    """
    _, kind, example, turn_id = key
    if kind == TURN:
        turn = state.remove_turn(run, example, turn_id)
        close_turn(state, run, key, turn, reason, at, effects, number)
        return
    episodes = state.remove_episodes(run, example)
    group = close_episodes(episodes, run.run_id, example, reason)
    _emit(state, group, group.group_id, group.config_digest, group.run_id, reason, at, effects)
    closed = {
        memory_name(EPISODES, example, name): {name: mark} for name, mark in episodes.fingerprints.items()
    }
    effects.changes.update(dict.fromkeys(episodes.keys))
    state.memory.add(run, closed, at, episodes.rules, effects)


def close_turn(
    state: PartitionState,
    run: RunState,
    key: GroupKey,
    turn: OpenTurn,
    reason: CloseReason,
    at: int,
    effects: Effects,
    number: int,
) -> None:
    """Emit the trajectories of a turn that is in no state, and remember its candidates.

    Args:
        state: that remembers.
        run: that it belongs to.
        key: that it has, or would have.
        turn: with at least one candidate.
        reason: why it is closed.
        at: stream time of the decision, ms.
        effects: receives what is to be done.
        number: the format that is written.
    """
    _, _, example, turn_id = key
    group_id, value = group_of_turn(turn, run.run_id, example, turn_id, reason)
    compact = number >= TURN_FORMAT and not turn.rules.expanded
    body = Spliced("tunestream.trajectory_group.v2", value) if compact else expanded_group(value)
    _emit(state, body, group_id, turn.config_digest, run.run_id, reason, at, effects)
    effects.changes.update(dict.fromkeys(turn.keys))
    of_content = number >= TURN_FORMAT
    marks = turn.marks if of_content else turn.marks | turn.raw_marks
    name = memory_name(TURN, example, turn_id)
    state.memory.add(run, {name: marks}, at, turn.rules, effects, of_content=of_content)


def _emit(
    state: PartitionState,
    body: Spliced | TrajectoryGroup,
    group_id: str,
    config_digest: str,
    run_id: str,
    reason: CloseReason,
    at: int,
    effects: Effects,
) -> None:
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
