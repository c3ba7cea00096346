"""The pair builder's core: turns open, collect, close and are remembered, in stream time."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tunestream.domain.effects import Effects, Refused
from tunestream.domain.scoring.waiting import Waiting
from tunestream.domain.ticks import TICK_MS, new_tick
from tunestream.domain.turns.arrivals import arrivals_in_closed, arrivals_in_open
from tunestream.domain.turns.close_group import close_episode_group
from tunestream.domain.turns.ending import TurnEnding
from tunestream.domain.turns.episode_arrivals import take_episode
from tunestream.domain.turns.group_rules import GroupRules
from tunestream.domain.turns.memory import Closed, memory_name
from tunestream.domain.turns.open_turn import OpenTurn
from tunestream.domain.turns.partition_state import PartitionState
from tunestream.domain.turns.run_state import EPISODES, TURN, GroupKey, RunState
from tunestream.domain.turns.turn_group import TurnGroup
from tunestream.events.keys import encode_key
from tunestream.events.runs import FORMAT, TURN_FORMAT
from tunestream.events.scores import ScoreAnswer, ScoreStep
from tunestream.events.trajectories import CloseReason
from tunestream.events.ttc import CandidateStep, EpisodeStep, ExampleEnd, Tick, TurnEnd
from tunestream.events.turns import TurnStep
from tunestream.events.views.candidates import SingleView, TurnView

__all__ = ["BuilderEvent", "PairBuilder", "event_of"]

BuilderEvent = TurnView | ScoreStep | TurnEnd | ExampleEnd | EpisodeStep | Tick


def event_of(
    body: CandidateStep | TurnStep | ScoreStep | TurnEnd | ExampleEnd | EpisodeStep | Tick,
) -> BuilderEvent:
    """Return what the pair builder takes of a body that the collector wrote."""
    match body:
        case CandidateStep():
            return SingleView.of(body)
        case TurnStep():
            return TurnView.of(body)
        case _:
            return body


class _Arrival(NamedTuple):
    """What came with a candidate or an episode."""

    config_digest: str
    rules: GroupRules
    raw: bytes


class PairBuilder:
    """Collects candidates into turns (and episodes into groups) on one partition.

    Args:
        rules: (run id, config digest) → the rules of its groups; raises KeyError when unknown.
        partition: of ``ttc.candidates``; stream time goes on to the same partition of ``trajectories``.
        number: the format that the deployment writes.
        has_service: whether a reward service answers requests for scores.
        take_group: takes the groups of turns; None sends them on to the gate.
    """

    def __init__(
        self,
        rules: Callable[[str, str], GroupRules],
        *,
        partition: int = 0,
        number: Callable[[], int] = lambda: FORMAT,
        has_service: Callable[[], bool] = lambda: False,
        take_group: Callable[[TurnGroup], None] | None = None,
    ) -> None:
        self._state = PartitionState(rules, partition)
        self._number = number
        self._ending = TurnEnding(self._state, number, has_service, take_group)
        self._unsettled: dict[GroupKey, OpenTurn] = {}
        self._restored = False

    @property
    def open_turns(self) -> int:
        """How many turns and groups of episodes are open."""
        return self._state.open_turns

    @property
    def oldest_open(self) -> int | None:
        """Stream time at which the oldest open turn opened, ms; None when none is open."""
        return self._state.oldest_open

    @property
    def waiting(self) -> Waiting[OpenTurn]:
        """The turns that wait for scores."""
        return self._ending.waiting

    @property
    def next_deadline(self) -> int | None:
        """Stream time at which the next open turn times out, ms, by its run's setting; None without one."""
        return self._state.next_deadline

    def knows(self, run_id: str, example_id: str, turn_id: str) -> bool:
        """Return whether a candidate of a turn came, as far as is remembered."""
        run = self._state.run(run_id)
        if turn_id in run.turns.get(example_id, {}) or (run_id, example_id, turn_id) in self._ending.waiting:
            return True
        name = memory_name(TURN, example_id, turn_id)
        return run.memory.get(name) is not None or run.memory.has_faded(name)

    def restore(self, key: bytes, value: bytes) -> None:
        """Take back one live record of the changelog; the order does not matter.

        Raises:
            KeyError: when the rules of an open turn's configuration are unknown.
        """
        self._restored = True
        self._state.restore(key, value)
        self._ending.waiting.restore(key, value)

    def handle(
        self,
        event: BuilderEvent,
        *,
        time: int,
        config_digest: str,
        raw: bytes,
        effects: Effects,
        everywhere: bool = False,
    ) -> None:
        """Advance stream time, close what is due of any run, and take the event.

        Args:
            event: the record's body.
            time: the record's time, ms.
            config_digest: of the configuration with which a new turn opens.
            raw: the record's body as bytes, kept while its turn is open; :meth:`settle` gives the state.
            effects: receives what is to be done.
            everywhere: whether copies of the record went to every partition.

        Raises:
            Refused: when the event is the sender's fault; it has changed nothing but stream time.
            KeyError: when the configuration is unknown; then nothing has changed.
        """
        match event:
            case TurnView():
                came = _Arrival(config_digest, self._state.rules(event.run_id, config_digest), raw)
                self.advance(time, effects)
                self._part(self._state.run(event.run_id), event, came, effects)
            case EpisodeStep():
                self._state.rules(event.run_id, config_digest)
                self.advance(time, effects)
                run = self._state.run(event.run_id)
                take_episode(self._state, run, event, config_digest, raw, effects)
            case Tick():
                self.advance(time, effects)
            case ScoreStep():
                self._state.rules(event.run_id, config_digest)
                self.advance(time, effects)
                self._ending.score(event, config_digest, everywhere=everywhere, effects=effects)
            case _:
                self.advance(time, effects)
                self._marker(self._state.run(event.run_id), event, effects)

    def answer(self, answer: ScoreAnswer, effects: Effects) -> None:
        """Take an answer to a request for scores; it moves no clock.

        Raises:
            Refused: when it is for other candidates than were asked about.
        """
        if self._restored:
            self._settle_restored(self._state.now, effects)
        self._ending.waiting.answer(answer, effects)

    def advance(self, time: int, effects: Effects) -> None:
        """Move stream time on, close what is due on the way, and pass each new second on to the gate.

        Args:
            time: of a record, also of one that is refused, ms.
            effects: receives what is to be done.
        """
        state = self._state
        if self._restored:
            self._settle_restored(time, effects)
        before = state.now
        if time <= before:
            return
        while self._end_next(time, effects):
            pass
        self._ending.waiting.catch_up(effects)
        state.advance(time, effects)
        if time // TICK_MS > before // TICK_MS:
            effects.outbound.append(new_tick("trajectories", state.partition, time))

    def _settle_restored(self, time: int, effects: Effects) -> None:
        self._restored = False
        self._state.settle(time, effects)
        self._ending.waiting.settle()

    def _end_next(self, time: int, effects: Effects) -> bool:
        """End what is due first, if anything is not due after ``time``."""
        closing, waiting = self._state.next_due(time), self._ending.waiting.next_due(time)
        if closing is not None and (waiting is None or closing <= waiting):
            deadline, key = closing
            self._close(self._state.run(key[0]), key, CloseReason.TIMEOUT, deadline, effects)
        elif waiting is not None:
            self._ending.waiting.expire(waiting[1], effects)
        else:
            return False
        return True

    def _part(self, run: RunState, part: TurnView, came: _Arrival, effects: Effects) -> None:
        """Take the candidates of a record, and close their turn with the last one."""
        turn = run.turns.get(part.example_id, {}).get(part.turn_id)
        if turn is None:
            closed = self._closed(run, part)
            if closed is not None:
                arrivals_in_closed(closed, part, came.raw, effects).raise_faults()
                return
        found = self._new_turn(run, came) if turn is None else turn
        arrivals = arrivals_in_open(found, part, effects)
        found.accept(part, arrivals.new, arrivals.marks, came.raw, self._state.now)
        before_turns = self._number() < TURN_FORMAT
        if before_turns and arrivals.new and isinstance(part, SingleView):
            found.mark_body(part, came.raw)
        if arrivals.new or part.complete:
            found.expect(part)
        key = (run.run_id, TURN, part.example_id, part.turn_id)
        if found.complete:
            if turn is None:
                ended = (run.run_id, part.example_id, part.turn_id)
                self._ending.end(ended, found, CloseReason.COMPLETE, self._state.now, effects)
            else:
                self._close(run, key, CloseReason.COMPLETE, self._state.now, effects)
        elif arrivals.new:
            if turn is None:
                self._state.add_turn(run, part.example_id, part.turn_id, found)
            self._unsettled[key] = found
            if before_turns:  # earlier releases read one candidate a record
                self.settle(effects)
        arrivals.raise_faults()

    def _closed(self, run: RunState, part: TurnView) -> Closed | None:
        name = memory_name(TURN, part.example_id, part.turn_id)
        closed = run.memory.get(name)
        key = (run.run_id, part.example_id, part.turn_id)
        if closed is None and (run.memory.has_faded(name) or key in self._ending.waiting):
            raise Refused(
                "late",
                f"turn {part.turn_id!r} was closed so long ago that its candidates are not remembered; "
                "a repeat may be left alone",
            )
        return closed

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
        self._unsettled.pop(key, None)
        _, kind, example, turn_id = key
        if kind == EPISODES:
            close_episode_group(self._state, run, example, reason, at, effects)
            return
        turn = self._state.remove_turn(run, example, turn_id)
        self._ending.end((run.run_id, example, turn_id), turn, reason, at, effects)

    def settle(self, effects: Effects) -> None:
        """Put down the clock and the candidates that were accepted since; before a transaction commits."""
        self._state.put_clock(effects)
        for (run_id, _, example, turn_id), turn in self._unsettled.items():
            key, value = turn.settle(encode_key(TURN, run_id, example, f"={turn_id}", turn.config_digest))
            effects.changes[key] = value
        self._unsettled.clear()

    def _new_turn(self, run: RunState, came: _Arrival) -> OpenTurn:
        if came.rules.pairing is None:
            raise Refused(
                "wrong_builder",
                f"run {run.run_id!r} collects episodes; set trajectory_builder._type to dpo_traj_builder",
            )
        return OpenTurn(came.config_digest, came.rules, self._state.now)
