"""The pair builder's core: turns open, collect, close and are remembered, in stream time."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tunestream.config.run.trajectory_builder import TrajectoryBuilder
from tunestream.domain.effects import Effects, Outbound, Refused
from tunestream.domain.turns.close_group import close_group
from tunestream.domain.turns.group_rules import GroupRules
from tunestream.domain.turns.memory import fingerprint, memory_name
from tunestream.domain.turns.open_group import OpenGroup
from tunestream.domain.turns.partition_state import PartitionState
from tunestream.domain.turns.run_state import EPISODES, TURN, GroupKey, RunState
from tunestream.events.ids import stable_id
from tunestream.events.keys import encode_key
from tunestream.events.trajectories import CloseReason
from tunestream.events.ttc import CandidateStep, EpisodeStep, ExampleEnd, Tick, TurnEnd

__all__ = ["BuilderEvent", "PairBuilder"]

BuilderEvent = CandidateStep | TurnEnd | ExampleEnd | EpisodeStep | Tick


class _Arrival(NamedTuple):
    """What came with a candidate or an episode."""

    config_digest: str
    rules: GroupRules
    sent: int
    raw: bytes
    mark: int


class PairBuilder:
    """Collects candidates into turns (and episodes into groups) on one partition.

    Args:
        rules: (run id, config digest) → how trajectories are built; raises KeyError when unknown.
        grace_ms: added to every time-out.
    """

    def __init__(self, rules: Callable[[str, str], TrajectoryBuilder], *, grace_ms: int = 5000) -> None:
        self._state = PartitionState(rules, grace_ms)

    @property
    def open_turns(self) -> int:
        """How many turns and groups of episodes are open."""
        return self._state.open_turns

    @property
    def oldest_open(self) -> int | None:
        """Stream time at which the oldest open turn opened, ms; None when none is open."""
        return self._state.oldest_open

    def restore(self, key: bytes, value: bytes) -> None:
        """Take back one live record of the changelog; the order does not matter.

        Raises:
            KeyError: when the rules of an open turn's configuration are unknown.
        """
        self._state.restore(key, value)

    def handle(
        self,
        event: BuilderEvent,
        *,
        time: int,
        config_digest: str,
        raw: bytes,
        effects: Effects,
        original_time: int | None = None,
    ) -> None:
        """Advance the run's stream time, close what is due, and take the event.

        Args:
            event: the record's body.
            time: the record's time, ms.
            config_digest: of the configuration with which a new turn opens.
            raw: the record's body as bytes, kept while its turn is open.
            effects: receives what is to be done.
            original_time: the record's time before it was replayed, by which it is judged late.

        Raises:
            Refused: when the event is the sender's fault; it has changed nothing but stream time.
            KeyError: when the configuration is unknown; then nothing has changed.
        """
        self._state.settle()
        run_id = event.run_id
        sent = time if original_time is None else original_time
        match event:
            case CandidateStep():
                came = self._arrival(run_id, config_digest, sent, raw)
                self._candidate(self._advance(run_id, time, effects), event, came, effects)
            case EpisodeStep():
                came = self._arrival(run_id, config_digest, sent, raw)
                self._episode(self._advance(run_id, time, effects), event, came, effects)
            case Tick():
                run = self._advance(run_id, time, effects)
                effects.outbound.append(_forward(event, run.now))
            case _:
                self._marker(self._advance(run_id, time, effects), event, effects)

    def _arrival(self, run_id: str, config_digest: str, sent: int, raw: bytes) -> _Arrival:
        rules = self._state.rules(run_id, config_digest)
        return _Arrival(config_digest, rules, sent, raw, fingerprint(raw))

    def _advance(self, run_id: str, time: int, effects: Effects) -> RunState:
        """Move stream time on, close what is due on the way, forget what is past its memory."""
        run = self._state.run(run_id)
        if time <= run.now:
            return run
        while (due := run.next_due(time)) is not None:
            deadline, key = due
            self._close(run, key, CloseReason.TIMEOUT, deadline, effects)
        run.now = time
        self._state.forget_past(run, time, effects)
        effects.changes[run.state_key] = b"%d %d" % (time, run.horizon)
        return run

    def _candidate(self, run: RunState, event: CandidateStep, came: _Arrival, effects: Effects) -> None:
        example, turn_id = event.example_id, event.turn_id
        turns = run.turns.get(example)
        turn = None if turns is None else turns.get(turn_id)
        if turn is None:
            if self._is_repeat_of_closed(run, event, came, effects):
                return
            _check_age(run, came)
            turn = _open_turn(run, event, came)
        elif event.candidate_id in turn.fingerprints:
            _repeat(turn.fingerprints[event.candidate_id], came, effects)
            return
        elif len(turn) >= turn.rules.capacity:
            raise Refused(
                "turn_full",
                f"turn {turn_id!r} has {len(turn)} candidates; raise max_candidates_per_turn of its run",
            )
        turn.expect(event.expected_candidates)
        effects.changes[turn.accept(event, event.candidate_id, came.mark, run.now)] = came.raw
        if turn.complete:
            self._close(run, (TURN, example, turn_id), CloseReason.COMPLETE, run.now, effects)

    def _is_repeat_of_closed(
        self, run: RunState, event: CandidateStep, came: _Arrival, effects: Effects
    ) -> bool:
        closed = run.memory.get(memory_name(TURN, event.example_id, event.turn_id))
        if closed is None:
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
            closed = run.memory.get(memory_name(EPISODES, example, event.episode_id))
            known = closed.recall(event.episode_id) if closed else None
        if known is not None:
            _repeat(known, came, effects)
            return
        _check_age(run, came)
        if group is None:
            group = _open_episodes(run, event, came)
        effects.changes[group.accept(event, event.episode_id, came.mark, run.now)] = came.raw
        if len(group) >= group.rules.capacity:
            self._close(run, (EPISODES, example, ""), CloseReason.COMPLETE, run.now, effects)

    def _marker(self, run: RunState, event: TurnEnd | ExampleEnd, effects: Effects) -> None:
        turns = run.turns.get(event.example_id, {})
        if isinstance(event, ExampleEnd):
            ended, reason = sorted(turns), CloseReason.EXAMPLE_END
        else:
            ended, reason = [event.turn_id] * (event.turn_id in turns), CloseReason.TURN_END
        if not ended:
            effects.counts["marker_ignored"] += 1
        for turn in ended:
            self._close(run, (TURN, event.example_id, turn), reason, run.now, effects)

    def _close(self, run: RunState, key: GroupKey, reason: CloseReason, at: int, effects: Effects) -> None:
        close_group(self._state, run, key, reason, at, effects)


def _open_turn(run: RunState, event: CandidateStep, came: _Arrival) -> OpenGroup[CandidateStep]:
    if came.rules.pairing is None:
        raise Refused(
            "wrong_builder",
            f"run {run.run_id!r} collects episodes; set trajectory_builder._type to dpo_traj_builder",
        )
    prefix = encode_key(TURN, run.run_id, event.example_id, f"={event.turn_id}", came.config_digest)
    turn = OpenGroup[CandidateStep](came.config_digest, came.rules, prefix, run.now)
    run.add_turn(event.example_id, event.turn_id, turn)
    return turn


def _open_episodes(run: RunState, event: EpisodeStep, came: _Arrival) -> OpenGroup[EpisodeStep]:
    if came.rules.pairing is not None:
        raise Refused(
            "wrong_builder",
            f"run {run.run_id!r} pairs candidates; set trajectory_builder._type to openpipe_art_traj_builder",
        )
    prefix = encode_key(EPISODES, run.run_id, event.example_id, "=", came.config_digest)
    group = OpenGroup[EpisodeStep](came.config_digest, came.rules, prefix, run.now)
    run.add_episodes(event.example_id, group)
    return group


def _check_age(run: RunState, came: _Arrival) -> None:
    if came.sent <= max(run.horizon, run.now - came.rules.memory_ms):
        raise Refused(
            "late",
            f"the event is {run.now - came.sent} ms behind its run, longer than closed turns are remembered; "
            "raise the trajectory builder's memory",
        )


def _repeat(known: int, came: _Arrival, effects: Effects) -> None:
    """Count an identical repeat; refuse one with other content."""
    if known != came.mark:
        raise Refused(
            "contradiction", "this id came before with another body; give every candidate an id of its own"
        )
    effects.counts["duplicate"] += 1


def _forward(tick: Tick, now: int) -> Outbound:
    name = stable_id("tick", tick.run_id, str(now))
    return Outbound(topic="trajectories", body=tick, id=name, time=now, key=(tick.run_id,))
