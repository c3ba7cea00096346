"""Recorded events in the native form: what agents publish, or what the collector made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import orjson
from pydantic import ValidationError

from tunestream.domain.collector.bounds import check_range
from tunestream.domain.collector.prompts import read_prompt, read_response
from tunestream.domain.effects import Refused
from tunestream.domain.refusals import refusal_of
from tunestream.domain.turns.recorded_members import Found, Member, encoded, encoded_prompt
from tunestream.domain.turns.recorded_steps import RecordingError
from tunestream.events.ttc import CandidateStep, TTCCandidate, TTCEpisode, TTCExampleEnd, TTCTurnEnd
from tunestream.events.turns import TTCTurn, TTCTurnCandidate, TurnMember, TurnStep

__all__ = ["NativeLines"]

_CANDIDATE: Final = frozenset({"response", "score", "candidate_id", "prompt"})
_Turn = TTCTurn | TurnStep


class NativeLines:
    """Reads the events of one run.

    Args:
        dropped: counts the keys of messages that are left out.
        missing_index: stands where a candidate has none.
    """

    def __init__(self, dropped: Counter[str], missing_index: int | None = None) -> None:
        self._dropped = dropped
        self._missing_index = missing_index
        self._run: str | None = None

    def __call__(self, number: int, fields: dict[str, Any]) -> Found:
        """Read a line.

        Raises:
            RecordingError: when it is another run's than the lines before.
            Refused: when it is no event, or one that makes no pairs.
        """
        model = _model_of(fields)
        try:
            event = model.model_validate(fields)
        except ValidationError as error:
            raise refusal_of(error, model.__name__) from None
        if isinstance(event, TTCEpisode):
            raise Refused("wrong_builder", "an episode makes no pairs; leave episodes out")
        self.check_run(number, event.run_id)
        if isinstance(event, TTCTurn | TurnStep):
            return self._turn(event)
        if isinstance(event, TTCCandidate | CandidateStep):
            return self._turn(_as_turn(event))
        turn_id = event.turn_id if isinstance(event, TTCTurnEnd) else None
        return Found(event.example_id, ends_turn=turn_id, ends_example=turn_id is None)

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

    def _turn(self, turn: _Turn) -> Found:
        """Read a turn: what is wrong with one candidate leaves that one out."""
        prompt = encoded_prompt(read_prompt(turn.prompt, "prompt", self._dropped))
        members: list[Member] = []
        refusals: list[Refused] = []
        candidates: Sequence[TTCTurnCandidate | TurnMember] = turn.candidates
        for position, candidate in enumerate(candidates):
            try:
                members.append(self._member(turn, candidate, prompt))
            except Refused as refused:
                refusals.append(Refused(refused.code, f"candidates.{position}.{refused.message}"))
        return Found(
            turn.example_id,
            members=members,
            refusals=tuple(refusals),
            ends_turn=turn.turn_id if turn.complete else None,
        )

    def _member(self, turn: _Turn, candidate: TTCTurnCandidate | TurnMember, prompt: bytes) -> Member:
        if candidate.score is None:
            raise Refused("schema.missing", "score is missing; pairs are made of scored candidates")
        check_range("score", candidate.score)
        return Member(
            turn.example_id,
            turn.turn_id,
            candidate.candidate_id,
            self._missing_index if candidate.candidate_index is None else candidate.candidate_index,
            prompt,
            encoded(read_response(candidate.response, "response", self._dropped)),
            candidate.score,
            _optional(turn.tools),
            _optional(turn.prompt_token_ids),
            _optional(candidate.token_ids),
            turn.expected_candidates,
        )


def _optional(value: list[Any] | None) -> bytes:
    return b"" if value is None else orjson.dumps(value)


def _as_turn(event: TTCCandidate | CandidateStep) -> _Turn:
    """Return a single candidate as a turn that is not complete."""
    values = dict(event)
    turn = {
        name: values.pop(name)
        for name in ("run_id", "example_id", "turn_id", "prompt", "expected_candidates")
    }
    if isinstance(event, TTCCandidate):
        return TTCTurn.of_valid(**turn, candidates=[TTCTurnCandidate.of_valid(**values)], complete=False)
    return TurnStep.of_valid(**turn, candidates=[TurnMember.of_valid(**values)], complete=False)


def _model_of(fields: dict[str, Any]) -> type[Any]:
    """Find the kind of an event by the fields that only it has."""
    if "items" in fields:
        return TTCEpisode
    if isinstance(members := fields.get("candidates"), list):
        validated = any(isinstance(member, dict) and "raw_metadata" in member for member in members)
        return TurnStep if validated else TTCTurn
    if "raw_metadata" in fields:
        return CandidateStep
    if fields.keys() & _CANDIDATE:
        return TTCCandidate
    return TTCTurnEnd if "turn_id" in fields else TTCExampleEnd
