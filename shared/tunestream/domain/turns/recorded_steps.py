"""Recorded events of NAT workflows, line by line: ``{"example_id": …, "step": <IntermediateStep>}``."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from tunestream.rows.errors import Place, RowError
from tunestream.rows.values import check_depth, find_surrogate, json_value

__all__ = ["RecordedPayload", "RecordedStep", "RecordingError", "read_step"]


class RecordingError(ValueError):
    """A line is not a recorded step; the message names the line, the field and what belongs there."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line


class RecordedPayload(msgspec.Struct):
    """What is read of a step's payload, as it came: nothing is checked yet, and the rest is dropped."""

    event_type: Any = None
    event_timestamp: Any = None
    name: Any = None
    UUID: Any = None
    metadata: Any = None
    data: Any = None


class _Step(msgspec.Struct):
    payload: RecordedPayload


class _Line(msgspec.Struct):
    step: _Step
    example_id: Any


# Takes two thirds of the time of making a dict of all that a line holds.
_decode: Final = msgspec.json.Decoder(_Line).decode


class RecordedStep(NamedTuple):
    """One line: its number from 1, its bytes, whose step it is, and the step's payload."""

    line: int
    raw: bytes
    example_id: str
    payload: RecordedPayload

    @property
    def time(self) -> int | None:
        """When it happened, ms; None when the step has no time.

        Raises:
            RecordingError: when the time is not a number of seconds.
        """
        seconds = self.payload.event_timestamp
        if seconds is None:
            return None
        if type(seconds) not in {int, float} or not -1e12 < seconds < 1e12:
            raise RecordingError(self.line, "step.payload.event_timestamp must be seconds since the epoch")
        return int(seconds * 1000)


def read_step(number: int, raw: bytes) -> RecordedStep | None:
    """Read a line of a recording, None when it is blank.

    Raises:
        RecordingError: when it is no recorded step.
    """
    try:
        line = _decode(raw)
    except (ValueError, RecursionError):
        if not raw.strip():
            return None
        line = _decode_at_length(number, raw)
    example = line.example_id
    if example is None or example == "":
        raise _nameless(number)
    return RecordedStep(number, raw, example if type(example) is str else str(example), line.step.payload)


def _decode_at_length(number: int, raw: bytes) -> _Line:
    """Read a line with NaN or infinity, which are then refused by name, or raise what is wrong with it."""
    place = Place("", number)  # the caller names the file
    try:
        document = json_value(raw, place, keep_numbers=True)
        check_depth(document, place)
    except RowError as error:
        raise RecordingError(number, error.detail) from None
    half = find_surrogate(document)
    if half is not None:
        raise RecordingError(number, f"{half[0] or 'it'}: not text: lone surrogate {half[1]}")
    if not isinstance(document, dict):
        raise RecordingError(number, 'must be an object {"example_id": …, "step": …}')
    if "example_id" not in document:
        raise _nameless(number)
    step = document.get("step")
    if not isinstance(step, dict) or not isinstance(step.get("payload"), dict):
        raise RecordingError(number, "field step.payload is missing; step is a NAT IntermediateStep")
    return msgspec.convert(document, _Line)


def _nameless(number: int) -> RecordingError:
    return RecordingError(number, "field example_id is missing; it names whose step it is")
