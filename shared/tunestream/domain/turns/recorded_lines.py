"""Lines of a recording, of every form: what candidates and markers they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tunestream.domain.collector.nat_parity import NATCandidate
from tunestream.domain.collector.nat_steps import PromptReader, candidate_of_data, read_fields
from tunestream.domain.effects import Refused
from tunestream.domain.turns.recorded_events import NativeLines
from tunestream.domain.turns.recorded_members import Found, Member, encoded, encoded_prompt
from tunestream.domain.turns.recorded_plain import PlainLines
from tunestream.domain.turns.recorded_steps import RecordedStep, read_line
from tunestream.events.ttc import CandidateStep
from tunestream.events.turns import TurnStep

__all__ = ["RecordedLines"]

_RUN = "offline"


class RecordedLines:
    """Reads lines, one after the other.

    Args:
        step_name: of the NAT steps that are candidates.
        dropped: counts the keys of messages that are left out.
        parity: whether steps are read as the toolkit reads them; then a candidate without index has 0.
    """

    def __init__(self, step_name: str, dropped: Counter[str], *, parity: bool = False) -> None:
        self._step_name = step_name
        self._parity = parity
        self._plain = PlainLines(step_name, parity=parity)
        self._native = NativeLines(dropped, parity=parity)
        self._read_input = PromptReader(dropped)
        self._turns = False

    def __call__(self, number: int, raw: bytes) -> Sequence[Found]:
        """Read a line: mostly one thing, none when it is blank.

        Args:
            number: from 1.
            raw: the line.

        Raises:
            RecordingError: when it is no part of a recording.
        """
        found = self._read_plain(number, raw)
        if found is not None:
            return (found,)
        line = read_line(number, raw)
        if line is None:
            return ()
        if isinstance(line, RecordedStep):
            return (self._step(line),)
        try:
            return self._native(number, line)
        except Refused as refused:
            return (Found(str(line.get("example_id")), refusals=(refused,)),)

    def _read_plain(self, number: int, raw: bytes) -> Found | None:
        """Read a line of the usual forms, first as one of the form that the line before had."""
        if not self._turns and (found := self._plain.step(raw)) is not None:
            return found
        if (turn := self._plain.turn(raw)) is not None:
            self._turns = True
            self._native.check_run(number, turn[0])
            return turn[1]
        if self._turns and (found := self._plain.step(raw)) is not None:
            self._turns = False
            return found
        return None

    def _step(self, step: RecordedStep) -> Found:
        payload = step.payload
        found = Found(step.example_id, seconds=payload.event_timestamp)
        if payload.event_type != "TTC_END" or payload.name != self._step_name:
            return found._replace(ends_example=payload.event_type == "WORKFLOW_END")
        try:
            return found._replace(members=(self._member(step),))
        except Refused as refused:
            return found._replace(refusals=(refused,))

    def _member(self, step: RecordedStep) -> Member:
        """Make of a step what the collector makes of it, or the reference."""
        data, metadata = step.payload.data, step.payload.metadata
        if not isinstance(data, dict):
            raise Refused(
                "schema.missing", "step.payload.data is missing; a candidate needs turn_id and score"
            )
        if not isinstance(metadata, dict):
            metadata = {}
        if self._parity:
            read = read_fields(step.example_id, data, metadata, self._read_input)
            return _member_of(read, "")
        candidate = candidate_of_data(
            data,
            run_id=_RUN,
            example_id=step.example_id,
            source_id=step.payload.UUID,
            metadata=metadata,
            read_input=self._read_input,
        )
        return _member_of(candidate, step.payload.UUID)


def _member_of(candidate: NATCandidate | CandidateStep | TurnStep, candidate_id: str) -> Member:
    found = candidate.candidates[0] if isinstance(candidate, TurnStep) else candidate
    assert found.score is not None
    return Member(
        candidate.example_id,
        candidate.turn_id,
        candidate_id,
        found.candidate_index,
        encoded_prompt(candidate.prompt),
        encoded(found.response),
        found.score,
    )
