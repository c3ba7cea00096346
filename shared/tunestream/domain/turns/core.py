"""The pair builder's core: turns open, collect, close and are remembered, in stream time."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tunestream.config.run.trajectory_builder import TrajectoryBuilder
from tunestream.domain.effects import Effects, Refused
from tunestream.domain.ticks import TICK_MS, new_tick
from tunestream.domain.turns.close_group import close_group
from tunestream.domain.turns.group_rules import GroupRules
from tunestream.domain.turns.memory import fingerprint, memory_name
from tunestream.domain.turns.open_group import OpenGroup
from tunestream.domain.turns.partition_state import PartitionState
from tunestream.domain.turns.run_state import EPISODES, TURN, GroupKey, RunState
from tunestream.events.keys import encode_key
from tunestream.events.trajectories import CloseReason
from tunestream.events.ttc import CandidateStep, EpisodeStep, ExampleEnd, Tick, TurnEnd

__all__ = ["BuilderEvent", "PairBuilder"]

BuilderEvent = CandidateStep | TurnEnd | ExampleEnd | EpisodeStep | Tick


class _Arrival(NamedTuple):
    """What came with a candidate or an episode."""

    config_digest: str
    rules: GroupRules
    raw: bytes
    mark: int


class PairBuilder:
    """Collects candidates into turns (and episodes into groups) on one partition.

    Args:
        rules: (run id, config digest) → how trajectories are built; raises KeyError when unknown.
        partition: of ``ttc.candidates``; stream time goes on to the same partition of ``trajectories``.
    """

    def __init__(self, rules: Callable[[str, str], TrajectoryBuilder], *, partition: int = 0) -> None:
        self._state = PartitionState(rules, partition)

    @property
    def open_turns(self) -> int:
        """How many turns and groups of episodes are open."""
        return self._state.open_turns

    @property
    def oldest_open(self) -> int | None:
        """Stream time at which the oldest open turn opened, ms; None when none is open."""
        return self._state.oldest_open

    @property
    def next_deadline(self) -> int | None:
        """Stream time at which the next open turn times out, ms, by its run's setting; None without one."""
        return self._state.next_deadline

    def restore(self, key: bytes, value: bytes) -> None:
        """Take back one live record of the changelog; the order does not matter.

        Raises:
            KeyError: when the rules of an open turn's configuration are unknown.
        """
        self._state.restore(key, value)

    def handle(
        self, event: BuilderEvent, *, time: int, config_digest: str, raw: bytes, effects: Effects
    ) -> None:
        """Advance stream time, close what is due of any run, and take the event.

        Args:
            event: the record's body.
            time: the record's time, ms.
            config_digest: of the configuration with which a new turn opens.
            raw: the record's body as bytes, kept while its turn is open.
            effects: receives what is to be done.

        Raises:
            Refused: when the event is the sender's fault; it has changed nothing but stream time.
            KeyError: when the configuration is unknown; then nothing has changed.
        """
        match event:
            case CandidateStep() | EpisodeStep():
                rules = self._state.rules(event.run_id, config_digest)
                came = _Arrival(config_digest, rules, raw, fingerprint(raw))
                self.advance(time, effects)
                run = self._state.run(event.run_id)
                if isinstance(event, CandidateStep):
                    self._candidate(run, event, came, effects)
                else:
                    self._episode(run, event, came, effects)
            case Tick():
                self.advance(time, effects)
            case _:
                self.advance(time, effects)
                self._marker(self._state.run(event.run_id), event, effects)

    def advance(self, time: int, effects: Effects) -> None:
        """Move stream time on, close what is due on the way, and pass each new second on to the gate.

        Args:
            time: of a record, also of one that is refused, ms.
            effects: receives what is to be done.
        """
        state = self._state
        state.settle(time, effects)
        before = state.now
        if time <= before:
            return
        while (due := state.next_due(time)) is not None:
            deadline, key = due
            self._close(state.run(key[0]), key, CloseReason.TIMEOUT, deadline, effects)
        state.advance(time, effects)
        if time // TICK_MS > before // TICK_MS:
            effects.outbound.append(new_tick("trajectories", state.partition, time))

    def _candidate(self, run: RunState, event: CandidateStep, came: _Arrival, effects: Effects) -> None:
        example, turn_id = event.example_id, event.turn_id
        turns = run.turns.get(example)
        turn = None if turns is None else turns.get(turn_id)
        if turn is None:
            if self._is_repeat_of_closed(run, event, came, effects):
                return
            turn = self._open_turn(run, event, came)
        elif event.candidate_id in turn.fingerprints:
            _repeat(turn.fingerprints[event.candidate_id], came, effects)
            return
        elif len(turn) >= turn.rules.capacity:
            raise Refused(
                "turn_full",
                f"turn {turn_id!r} has {len(turn)} candidates; raise max_candidates_per_turn of its run",
            )
        turn.expect(event.expected_candidates)
        now = self._state.now
        effects.changes[turn.accept(event, event.candidate_id, came.mark, now)] = came.raw
        if turn.complete:
            self._close(run, (run.run_id, TURN, example, turn_id), CloseReason.COMPLETE, now, effects)

    def _is_repeat_of_closed(
        self, run: RunState, event: CandidateStep, came: _Arrival, effects: Effects
    ) -> bool:
        name = memory_name(TURN, event.example_id, event.turn_id)
        closed = run.memory.get(name)
        if closed is None:
            if run.memory.has_faded(name):
                raise Refused(
                    "late",
                    f"turn {event.turn_id!r} was closed so many turns ago that its candidates are not "
                    "remembered; a repeat may be left alone",
                )
            return False
        known = closed.recall(event.candidate_id)
        if known is None:
            raise Refused(
                "late", f"turn {event.turn_id!r} was closed; send candidates before its end or time-out"
            )
        _repeat(known, came, effects)
        return True

    def _episode(self, run: RunState, event: EpisodeStep, came: _Arrival, effects: Effects) -> None:
        example = event.example_id
        group = run.episodes.get(example)
        known = group.fingerprints.get(event.episode_id) if group else None
        if known is None:
            name = memory_name(EPISODES, example, event.episode_id)
            closed = run.memory.get(name)
            known = closed.recall(event.episode_id) if closed else None
            if run.memory.has_faded(name):
                known = came.mark  # its content is not known any more
        if known is not None:
            _repeat(known, came, effects)
            return
        if group is None:
            group = self._open_episodes(run, event, came)
        now = self._state.now
        effects.changes[group.accept(event, event.episode_id, came.mark, now)] = came.raw
        if len(group) >= group.rules.capacity:
            self._close(run, (run.run_id, EPISODES, example, ""), CloseReason.COMPLETE, now, effects)

    def _marker(self, run: RunState, event: TurnEnd | ExampleEnd, effects: Effects) -> None:
        turns = run.turns.get(event.example_id, {})
        if isinstance(event, ExampleEnd):
            ended, reason = sorted(turns), CloseReason.EXAMPLE_END
        else:
            ended, reason = [event.turn_id] * (event.turn_id in turns), CloseReason.TURN_END
        if not ended:
            effects.counts["marker_ignored"] += 1
        for turn in ended:
            self._close(run, (run.run_id, TURN, event.example_id, turn), reason, self._state.now, effects)

    def _close(self, run: RunState, key: GroupKey, reason: CloseReason, at: int, effects: Effects) -> None:
        close_group(self._state, run, key, reason, at, effects)

    def _open_turn(self, run: RunState, event: CandidateStep, came: _Arrival) -> OpenGroup[CandidateStep]:
        if came.rules.pairing is None:
            raise Refused(
                "wrong_builder",
                f"run {run.run_id!r} collects episodes; set trajectory_builder._type to dpo_traj_builder",
            )
        prefix = encode_key(TURN, run.run_id, event.example_id, f"={event.turn_id}", came.config_digest)
        turn = OpenGroup[CandidateStep](came.config_digest, came.rules, prefix, self._state.now)
        self._state.add_turn(run, event.example_id, event.turn_id, turn)
        return turn

    def _open_episodes(self, run: RunState, event: EpisodeStep, came: _Arrival) -> OpenGroup[EpisodeStep]:
        if came.rules.pairing is not None:
            raise Refused(
                "wrong_builder",
                f"run {run.run_id!r} pairs candidates; set trajectory_builder._type to "
                "openpipe_art_traj_builder",
            )
        prefix = encode_key(EPISODES, run.run_id, event.example_id, "=", came.config_digest)
        group = OpenGroup[EpisodeStep](came.config_digest, came.rules, prefix, self._state.now)
        self._state.add_episodes(run, event.example_id, group)
        return group


def _repeat(known: int, came: _Arrival, effects: Effects) -> None:
    """Count an identical repeat; refuse one with other content."""
    if known != came.mark:
        raise Refused(
            "contradiction", "this id came before with another body; give every candidate an id of its own"
        )
    effects.counts["duplicate"] += 1
