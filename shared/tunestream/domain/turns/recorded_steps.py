"""Recorded events, line by line: ``{"example_id": …, "step": <IntermediateStep>}``, or in the native form."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from tunestream.rows.errors import Place, RowError
from tunestream.rows.values import check_depth, find_surrogate, json_value

__all__ = ["RecordedPayload", "RecordedStep", "RecordingError", "milliseconds", "read_line"]


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
    """Whose step a line is, and the step's payload."""

    example_id: str
    payload: RecordedPayload


def milliseconds(number: int, seconds: object) -> int | None:
    """Return the time of a step in ms, None when it has none.

    Raises:
        RecordingError: when it is not a number of seconds.
    """
    if seconds is None:
        return None
    if type(seconds) not in {int, float} or not -1e12 < seconds < 1e12:  # type: ignore[operator]
        raise RecordingError(number, "step.payload.event_timestamp must be seconds since the epoch")
    return int(seconds * 1000)  # type: ignore[operator]


def read_line(number: int, raw: bytes) -> RecordedStep | dict[str, Any] | None:
    """Read a line: a step, or the fields of an event in the native form; None when it is blank.

    Raises:
        RecordingError: when it is neither.
    """
    try:
        line = _decode(raw)
    except (ValueError, RecursionError):
        if not raw.strip():
            return None
        document = _document(number, raw)
        if "run_id" in document and "step" not in document:
            return document
        line = _step_of(number, document)
    example = line.example_id
    if example is None or example == "":
        raise _nameless(number)
    return RecordedStep(example if type(example) is str else str(example), line.step.payload)


def _document(number: int, raw: bytes) -> dict[str, Any]:
    """Read a line of any kind, also one with NaN or infinity, which are then refused by name."""
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
        raise RecordingError(number, 'must be an object {"example_id": …, "step": …}, or an event')
    return document


def _step_of(number: int, document: dict[str, Any]) -> _Line:
    if "example_id" not in document:
        raise _nameless(number)
    step = document.get("step")
    if not isinstance(step, dict) or not isinstance(step.get("payload"), dict):
        raise RecordingError(
            number,
            "field step.payload is missing; a line is a NAT IntermediateStep of an example, or an event with "
            "its run_id",
        )
    return msgspec.convert(document, _Line)


def _nameless(number: int) -> RecordingError:
    return RecordingError(number, "field example_id is missing; it names whose step it is")
