"""Candidates of a recording: what pairing decides on, the rest as slices of JSON that rows are made of."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
import orjson
from msgspec import Raw

from tunestream.domain.collector.bounds import LARGEST_SCORE
from tunestream.domain.collector.nat_steps import NATCandidate
from tunestream.events.base import IDENTIFIER_LENGTH, NESTING_LIMIT
from tunestream.events.messages import Prompt
from tunestream.events.ttc import CandidateStep

__all__ = ["Member", "PlainStep", "PlainSteps", "member_of"]


class Member(msgspec.Struct, frozen=True, gc=False):
    """One scored candidate; ``prompt`` and ``response`` are canonical JSON, equal exactly for equal ones."""

    example_id: str
    turn_id: str
    index: int | None
    prompt: bytes
    response: bytes
    score: float


class _Data(msgspec.Struct, gc=False):
    turn_id: str | None = None
    candidate_index: int | None = None
    score: float | None = None
    input: Raw = Raw(b"null")
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


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: str
    content: str


def member_of(candidate: NATCandidate | CandidateStep) -> Member:
    """Return a candidate that was read in full."""
    return Member(
        candidate.example_id,
        candidate.turn_id,
        candidate.candidate_index,
        _written_prompt(candidate.prompt),
        orjson.dumps(candidate.response),
        candidate.score,
    )


def _written_prompt(prompt: Prompt) -> bytes:
    if isinstance(prompt, str):
        return orjson.dumps(prompt)
    return b"[%b]" % b",".join(message.to_json() for message in prompt)


class PlainStep(NamedTuple):
    """A line that could be read at once.

    Attributes:
        example_id: whose step it is.
        time: when it happened, s; None when the step has no time.
        ends: whether it ends its example.
        member: the candidate that it is, None for any other step.
        source_id: the candidate's UUID.
    """

    example_id: str
    time: float | None
    ends: bool
    member: Member | None
    source_id: str


_line: Final = msgspec.json.Decoder(_Line).decode
_messages: Final = msgspec.json.Decoder(list[_Message]).decode
_text: Final = msgspec.json.Decoder(str).decode
_object: Final = msgspec.json.Decoder(dict[str, Any]).decode
_encode: Final = msgspec.json.Encoder().encode


class PlainSteps:
    """Reads lines in the form that nearly all have; all others it leaves to those who know every form.

    Args:
        step_name: of the steps that are candidates.
        missing_index: stands where a candidate has none.
    """

    def __init__(self, step_name: str, missing_index: int | None = None) -> None:
        self._step_name = step_name
        self._missing_index = missing_index
        self._input = b""
        self._prompt = b""

    def __call__(self, raw: bytes) -> PlainStep | None:
        """Return the step of a line, None when it is not plain."""
        try:
            if not raw.isascii():
                raw.decode()  # slices are not decoded
            line = _line(raw)
            if not 0 < len(line.example_id) <= IDENTIFIER_LENGTH:
                return None
            payload = line.step.payload
            if payload.event_type != "TTC_END" or payload.name != self._step_name:
                ends = payload.event_type == "WORKFLOW_END"
                return PlainStep(line.example_id, payload.event_timestamp, ends, None, "")
            member = self._member(line.example_id, payload)
        except (ValueError, RecursionError):
            return None
        if member is None:
            return None
        return PlainStep(line.example_id, payload.event_timestamp, False, member, payload.UUID or "")

    def _member(self, example_id: str, payload: _Payload) -> Member | None:
        data = payload.data
        if data is None or not data.turn_id or data.score is None or not payload.UUID:
            return None
        if not abs(data.score) <= LARGEST_SCORE or not _is_kept(bytes(payload.metadata)):
            return None
        prompt, response = self._read_prompt(bytes(data.input)), _read_text(bytes(data.output))
        if not prompt or not response:
            return None
        index = self._missing_index if data.candidate_index is None else data.candidate_index
        return Member(example_id, data.turn_id, index, prompt, response, data.score)

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
    return _encode(_text(value)) if b"\\" in value else value


def _is_kept(metadata: bytes) -> bool:
    """Return whether metadata is surely as flat, and its numbers as finite, as they have to be."""
    if metadata == b"null":
        return True
    if metadata.count(b"{") + metadata.count(b"[") > NESTING_LIMIT:
        return False
    _object(metadata)
    return True
