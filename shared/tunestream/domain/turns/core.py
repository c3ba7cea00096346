"""The pair builder's core: turns open, collect, close and are remembered, in stream time."""

from __future__ import annotations

from collections.abc import Callable

from tunestream.domain.effects import Effects
from tunestream.domain.scoring.waiting import Waiting
from tunestream.domain.ticks import TICK_MS, new_tick
from tunestream.domain.turns.close_group import close_episode_group
from tunestream.domain.turns.collecting import Arrival, TurnCollecting
from tunestream.domain.turns.ending import TurnEnding
from tunestream.domain.turns.episode_arrivals import take_episode
from tunestream.domain.turns.group_rules import GroupRules
from tunestream.domain.turns.open_turn import OpenTurn
from tunestream.domain.turns.partition_state import PartitionState
from tunestream.domain.turns.run_state import EPISODES, TURN, GroupKey, RunState
from tunestream.domain.turns.turn_group import TurnGroup
from tunestream.events.runs import FORMAT
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
        self._ending = TurnEnding(self._state, number, has_service, take_group)
        self._turns = TurnCollecting(self._state, number, self._ending)
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
        return self._turns.knows(run_id, example_id, turn_id)

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
                came = Arrival(config_digest, self._state.rules(event.run_id, config_digest), raw)
                self.advance(time, effects)
                self._turns.take(self._state.run(event.run_id), event, came, effects)
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
        _, kind, example, turn_id = key
        if kind == EPISODES:
            close_episode_group(self._state, run, example, reason, at, effects)
            return
        self._turns.close(run, example, turn_id, reason, at, effects)

    def settle(self, effects: Effects) -> None:
        """Put down the clock and the candidates that were accepted since; before a transaction commits."""
        self._state.put_clock(effects)
        self._turns.settle(effects)
