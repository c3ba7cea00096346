"""Turns collect candidates until they are complete, a marker ends them or their time is up."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tunestream.domain.effects import Effects, Refused
from tunestream.domain.turns.arrivals import arrivals_in_closed, arrivals_in_open
from tunestream.domain.turns.ending import TurnEnding
from tunestream.domain.turns.group_rules import GroupRules
from tunestream.domain.turns.memory import Closed, memory_name
from tunestream.domain.turns.open_turn import OpenTurn
from tunestream.domain.turns.partition_state import PartitionState
from tunestream.domain.turns.run_state import TURN, RunState
from tunestream.events.keys import encode_key
from tunestream.events.runs import TURN_FORMAT
from tunestream.events.trajectories import CloseReason
from tunestream.events.views.candidates import SingleView, TurnView

__all__ = ["Arrival", "TurnCollecting"]


class Arrival(NamedTuple):
    """What came with a candidate or an episode."""

    config_digest: str
    rules: GroupRules
    raw: bytes


class TurnCollecting:
    """The turns of a partition that take candidates.

    Args:
        state: of the partition.
        number: the format that the deployment writes.
        ending: ends turns.
    """

    def __init__(self, state: PartitionState, number: Callable[[], int], ending: TurnEnding) -> None:
        self._state = state
        self._number = number
        self._ending = ending
        self._unsettled: dict[tuple[str, str, str], OpenTurn] = {}

    def knows(self, run_id: str, example_id: str, turn_id: str) -> bool:
        """Return whether a candidate of a turn came, as far as is remembered."""
        run = self._state.run(run_id)
        if turn_id in run.turns.get(example_id, {}) or (run_id, example_id, turn_id) in self._ending.waiting:
            return True
        name = memory_name(TURN, example_id, turn_id)
        return run.memory.get(name) is not None or run.memory.has_faded(name)

    def take(self, run: RunState, part: TurnView, came: Arrival, effects: Effects) -> None:
        """Take the candidates of a record, and close their turn with the last one.

        Raises:
            Refused: when some do not count; the others do.
        """
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
        key = (run.run_id, part.example_id, part.turn_id)
        if found.complete:
            if turn is None:
                self._ending.end(key, found, CloseReason.COMPLETE, self._state.now, effects)
            else:
                self.close(run, *key[1:], CloseReason.COMPLETE, self._state.now, effects)
        elif arrivals.new:
            if turn is None:
                self._state.add_turn(run, part.example_id, part.turn_id, found)
            self._unsettled[key] = found
            if before_turns:  # earlier releases read one candidate a record
                self.settle(effects)
        arrivals.raise_faults()

    def close(
        self, run: RunState, example: str, turn_id: str, reason: CloseReason, at: int, effects: Effects
    ) -> None:
        """Take an open turn out of the state, and end it at stream time ``at``, ms."""
        key = (run.run_id, example, turn_id)
        self._unsettled.pop(key, None)
        self._ending.end(key, self._state.remove_turn(run, example, turn_id), reason, at, effects)

    def settle(self, effects: Effects) -> None:
        """Put down the candidates that were accepted since."""
        for (run_id, example, turn_id), turn in self._unsettled.items():
            key, value = turn.settle(encode_key(TURN, run_id, example, f"={turn_id}", turn.config_digest))
            effects.changes[key] = value
        self._unsettled.clear()

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

    def _new_turn(self, run: RunState, came: Arrival) -> OpenTurn:
        if came.rules.pairing is None:
            raise Refused(
                "wrong_builder",
                f"run {run.run_id!r} collects episodes; set trajectory_builder._type to dpo_traj_builder",
            )
        return OpenTurn(came.config_digest, came.rules, self._state.now)
