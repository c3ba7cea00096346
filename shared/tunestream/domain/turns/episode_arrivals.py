"""Episodes as they come: into the open group of their example, or a new one."""

from __future__ import annotations

from zlib import crc32

from tunestream.domain.effects import Effects, Refused
from tunestream.domain.turns.arrivals import check_repeat
from tunestream.domain.turns.close_group import close_episode_group
from tunestream.domain.turns.memory import memory_name
from tunestream.domain.turns.open_episodes import OpenEpisodes
from tunestream.domain.turns.partition_state import PartitionState
from tunestream.domain.turns.run_state import EPISODES, RunState
from tunestream.events.keys import encode_key
from tunestream.events.trajectories import CloseReason
from tunestream.events.ttc import EpisodeStep

__all__ = ["take_episode"]


def take_episode(
    state: PartitionState,
    run: RunState,
    event: EpisodeStep,
    config_digest: str,
    raw: bytes,
    effects: Effects,
) -> None:
    """Take an episode, and close its group with the last one.

    Args:
        state: of the partition.
        run: that the episode is of.
        event: the episode.
        config_digest: of the configuration with which a new group opens.
        raw: the record's body, kept while the group is open.
        effects: receives what is to be done.

    Raises:
        Refused: when it came before with another body, or its run pairs candidates.
    """
    example, mark = event.example_id, crc32(raw)
    group = run.episodes.get(example)
    known = group.fingerprints.get(event.episode_id) if group else None
    if known is None:
        name = memory_name(EPISODES, example, event.episode_id)
        closed = run.memory.get(name)
        known = closed.recall(event.episode_id) if closed else None
        if run.memory.has_faded(name):
            known = mark  # its content is not known any more
    if known is not None:
        check_repeat(known, mark, effects)
        return
    if group is None:
        group = _open(state, run, example, config_digest)
    effects.changes[group.accept(event, event.episode_id, mark, state.now)] = raw
    if len(group) >= group.rules.capacity:
        close_episode_group(state, run, example, CloseReason.COMPLETE, state.now, effects)


def _open(state: PartitionState, run: RunState, example: str, config_digest: str) -> OpenEpisodes:
    rules = state.rules(run.run_id, config_digest)
    if rules.pairing is not None:
        raise Refused(
            "wrong_builder",
            f"run {run.run_id!r} pairs candidates; set trajectory_builder._type to openpipe_art_traj_builder",
        )
    prefix = encode_key(EPISODES, run.run_id, example, "=", config_digest)
    group = OpenEpisodes(config_digest, rules, prefix, state.now)
    state.add_episodes(run, example, group)
    return group
