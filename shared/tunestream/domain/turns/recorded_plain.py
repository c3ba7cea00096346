"""Lines of a recording in the form that nearly all have, read at once."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Raw

from tunestream.domain.collector.bounds import LARGEST_SCORE
from tunestream.domain.turns.recorded_members import Found, Member
from tunestream.events.base import IDENTIFIER_LENGTH, NESTING_LIMIT
from tunestream.events.views.slices import Name, is_utf8, one_spelling

__all__ = ["PlainLines"]


class _Data(msgspec.Struct, gc=False):
    turn_id: str | None = None
    candidate_index: int | None = None
    score: float | None = None
    asked: Raw = msgspec.field(default=Raw(b"null"), name="input")
    output: Raw = Raw(b"null")


class _Payload(msgspec.Struct, gc=False):
    event_type: str
    event_timestamp: float | None = None
    name: str | None = None
    UUID: str | None = None
    metadata: Raw = Raw(b"null")
    data: _Data | None = None


class _Step(msgspec.Struct, gc=False):
    payload: _Payload


class _Line(msgspec.Struct, gc=False):
    example_id: str
    step: _Step


class _Candidate(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    candidate_id: Name
    response: Raw
    score: float
    candidate_index: int | None = None
    policy_version: str | None = None
    metadata: Raw = Raw(b"null")


class _Turn(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    run_id: Name
    example_id: Name
    turn_id: Name
    prompt: Raw
    candidates: Annotated[list[_Candidate], msgspec.Meta(min_length=1)]
    complete: bool = True
    expected_candidates: Annotated[int, msgspec.Meta(ge=1)] | None = None
    policy_version: str | None = None


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: str
    content: str


_line: Final = msgspec.json.Decoder(_Line).decode
_turn: Final = msgspec.json.Decoder(_Turn).decode
_messages: Final = msgspec.json.Decoder(list[_Message]).decode
_NULL: Final = Raw(b"null")
_object: Final = msgspec.json.Decoder(dict[str, Any]).decode
_encode: Final = msgspec.json.Encoder().encode


class PlainLines:
    """Reads lines in the form that nearly all have; all others it leaves to those who know every form.

    Args:
        step_name: of the steps that are candidates.
        parity: whether a candidate without index has 0, and a prompt that ends in the answer stays as it is.
    """

    def __init__(self, step_name: str, *, parity: bool = False) -> None:
        self._step_name = step_name
        self._missing_index = 0 if parity else None
        self._parity = parity
        self._input = b""
        self._prompt = b""

    def step(self, raw: bytes) -> Found | None:
        """Return the step of a line, None when it is not plain."""
        try:
            if not is_utf8(raw):
                return None
            line = _line(raw)
            example_id, payload = line.example_id, line.step.payload
            if not 0 < len(example_id) <= IDENTIFIER_LENGTH:
                return None
            if payload.event_type != "TTC_END" or payload.name != self._step_name:
                ends = payload.event_type == "WORKFLOW_END"
                return Found(example_id, (), payload.event_timestamp, None, ends)
            member = self._member(example_id, payload)
        except (ValueError, RecursionError):
            return None
        return None if member is None else Found(example_id, (member,), payload.event_timestamp)

    def _member(self, example_id: str, payload: _Payload) -> Member | None:
        data, candidate_id = payload.data, payload.UUID
        if data is None or not candidate_id or not _is_kept(payload.metadata):
            return None
        turn_id, score, index = data.turn_id, data.score, data.candidate_index
        if not turn_id or score is None or not -LARGEST_SCORE <= score <= LARGEST_SCORE:
            return None
        prompt, response = self._read_prompt(bytes(data.asked)), _read_text(bytes(data.output))
        if not prompt or not response or self._ends_in(prompt, response):
            return None
        if index is None:
            index = self._missing_index
        return Member(example_id, turn_id, candidate_id, index, prompt, response, score)

    def _ends_in(self, prompt: bytes, response: bytes) -> bool:
        """Return whether the prompt's last message may be the answer, which is left out of it then."""
        return prompt[-1:] == b"]" and prompt.endswith(response + b"}]") and not self._parity

    def turn(self, raw: bytes) -> tuple[str, Found] | None:
        """Return the run and the candidates of a turn that was published, None when it is not plain."""
        try:
            if not is_utf8(raw):
                return None
            turn = _turn(raw)
            prompt = self._read_prompt(bytes(turn.prompt))
            members = [self._candidate(turn, each, prompt) for each in turn.candidates]
        except (ValueError, RecursionError):
            return None
        if (
            not prompt
            or None in members
            or len({each.candidate_id for each in turn.candidates}) < len(members)
        ):
            return None
        ends = turn.turn_id if turn.complete else None
        return turn.run_id, Found(
            turn.example_id, [member for member in members if member is not None], None, ends
        )

    def _candidate(self, turn: _Turn, candidate: _Candidate, prompt: bytes) -> Member | None:
        response, score = _read_text(bytes(candidate.response)), candidate.score
        if not response or not abs(score) <= LARGEST_SCORE or not _is_kept(candidate.metadata):
            return None
        if self._ends_in(prompt, response):
            return None
        return Member(
            turn.example_id,
            turn.turn_id,
            candidate.candidate_id,
            self._missing_index if candidate.candidate_index is None else candidate.candidate_index,
            prompt,
            response,
            score,
            expected=turn.expected_candidates,
        )

    def _read_prompt(self, value: bytes) -> bytes:
        """Return the canonical form of a prompt, which is mostly that of the line before; empty for none."""
        if value != self._input:
            self._prompt = _read_messages(value) if value[:1] == b"[" else _read_text(value)
            self._input = value
        return self._prompt


def _read_messages(value: bytes) -> bytes:
    messages = _messages(value)
    return _encode(messages) if messages and all(message.role for message in messages) else b""


def _read_text(value: bytes) -> bytes:
    """Return the canonical form of text, empty for what is none, and for text without characters."""
    if len(value) <= 2 or value[:1] != b'"':
        return b""
    return one_spelling(value)


def _is_kept(metadata: Raw) -> bool:
    """Return whether metadata is surely as flat, and its numbers as finite, as they have to be."""
    if metadata == _NULL:
        return True
    written = bytes(metadata)
    if len(written) > 2 * NESTING_LIMIT and written.count(b"{") + written.count(b"[") > NESTING_LIMIT:
        return False
    _object(written)
    return True
