"""Recorded events in the native form: what agents publish, or what the collector made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from pydantic import ValidationError

from tunestream.domain.collector.normaliser import normalise_native
from tunestream.domain.collector.rules import CandidateRules, left_out
from tunestream.domain.collector.turns import normalise_turn
from tunestream.domain.effects import Refused
from tunestream.domain.refusals import refusal_of
from tunestream.domain.turns.recorded_members import Found, Member, encoded, encoded_list, encoded_prompt
from tunestream.domain.turns.recorded_steps import RecordingError
from tunestream.events.ids import candidate_id
from tunestream.events.ttc import (
    CandidateStep,
    TTCCandidate,
    TTCEpisode,
    TTCExampleEnd,
    TTCTurnEnd,
    TurnEnd,
)
from tunestream.events.turns import ReceivedTurn, TTCTurn, TTCTurnCandidate, TurnMember, TurnStep

__all__ = ["NativeLines"]

_CANDIDATE: Final = frozenset({"response", "score", "candidate_id", "prompt"})


class NativeLines:
    """Reads the events of one run.

    Args:
        dropped: counts the keys of messages that are left out.
        parity: whether a candidate without index has 0, and a prompt stays as it is.
    """

    def __init__(self, dropped: Counter[str], *, parity: bool = False) -> None:
        self._dropped = dropped
        self._missing_index = 0 if parity else None
        self._rules = CandidateRules(keeps_answers=parity)
        self._run: str | None = None

    def __call__(self, number: int, fields: dict[str, Any]) -> list[Found]:
        """Read a line.

        Raises:
            RecordingError: when it is another run's than the lines before.
            Refused: when it is no event, or one that makes no pairs.
        """
        model = _model_of(fields)
        try:
            event = model.model_validate(fields)
        except ValidationError as error:
            name = TTCTurn if model is ReceivedTurn else model
            raise refusal_of(error, name.__name__) from None
        if isinstance(event, TTCEpisode):
            raise Refused("wrong_builder", "an episode makes no pairs; leave episodes out")
        self.check_run(number, event.run_id)
        if isinstance(event, TTCTurn):
            return self._turn(event)
        if isinstance(event, TTCCandidate):
            step = normalise_native(event, self._dropped, self._rules)
            assert isinstance(step, CandidateStep | TurnStep)
            return [self._part(step, lambda _name: event.candidate_id)]
        if isinstance(event, CandidateStep | TurnStep):
            return [self._part(event, str)]
        return [_marker(event)]

    def check_run(self, number: int, run_id: str) -> None:
        """Make sure that a line is of the run of the lines before.

        Raises:
            RecordingError: when it is another run's.
        """
        if self._run not in {None, run_id}:
            raise RecordingError(
                number, f"run_id is {run_id!r}, after {self._run!r}; make pairs of one run at a time"
            )
        self._run = run_id

    def _turn(self, turn: TTCTurn) -> list[Found]:
        """Read a turn: what is wrong with one candidate leaves that one out."""
        found = normalise_turn(turn, self._rules, self._dropped)
        names = {
            candidate_id(turn.run_id, turn.example_id, turn.turn_id, each.candidate_id): each.candidate_id
            for each in turn.candidates
            if isinstance(each, TTCTurnCandidate)
        }
        refusals = (left_out(found.faults, len(turn.candidates)),) if found.faults else ()
        parts = [
            self._part(step, names.__getitem__) if isinstance(step, TurnStep) else _marker(step)
            for step in found.steps
        ]
        first = parts[0] if parts else Found(turn.example_id)
        return [first._replace(refusals=refusals, repeats=found.repeats), *parts[1:]]

    def _part(self, step: CandidateStep | TurnStep, name_of: Callable[[str], str]) -> Found:
        """Return the candidates of what the collector would write; ``name_of`` gives their own names."""
        turn = step if isinstance(step, TurnStep) else None
        candidates: Sequence[CandidateStep | TurnMember]
        candidates = step.candidates if isinstance(step, TurnStep) else [step]
        context = (encoded_list(turn.tools), encoded_list(turn.prompt_token_ids)) if turn else (b"", b"")
        prompt = encoded_prompt(step.prompt)
        members = [
            Member(
                step.example_id,
                step.turn_id,
                name_of(each.candidate_id),
                self._missing_index if each.candidate_index is None else each.candidate_index,
                prompt,
                encoded(each.response),
                each.score,
                *context,
                encoded_list(each.token_ids) if isinstance(each, TurnMember) else b"",
                step.expected_candidates,
            )
            for each in candidates
            if each.score is not None
        ]
        unscored = len(candidates) - len(members)
        missing = Refused("schema.missing", "score is missing; pairs are made of scored candidates")
        ends = step.turn_id if turn is not None and turn.complete else None
        return Found(step.example_id, members, None, ends, refusals=(missing,) * unscored)


def _marker(event: TTCTurnEnd | TTCExampleEnd | TurnEnd) -> Found:
    turn_id = None if isinstance(event, TTCExampleEnd) else event.turn_id
    return Found(event.example_id, ends_turn=turn_id, ends_example=turn_id is None)


def _model_of(fields: dict[str, Any]) -> type[Any]:
    """Find the kind of an event by the fields that only it has."""
    if "items" in fields:
        return TTCEpisode
    if isinstance(members := fields.get("candidates"), list):
        validated = any(isinstance(member, dict) and "raw_metadata" in member for member in members)
        return TurnStep if validated else ReceivedTurn
    if "raw_metadata" in fields:
        return CandidateStep
    if fields.keys() & _CANDIDATE:
        return TTCCandidate
    return TTCTurnEnd if "turn_id" in fields else TTCExampleEnd
