"""Recorded events, one JSON object a line, as records of ``ttc.events``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

from pydantic import ValidationError

from tunestream.events.base import NotKept, check_kept
from tunestream.events.nat import IntermediateStep, IntermediateStepType
from tunestream.events.scores import TTCScore
from tunestream.events.ttc import TTCCandidate, TTCEpisode, TTCExampleEnd, TTCTurnEnd
from tunestream.events.turns import TTCTurn
from tunestream.rows.errors import Place, RowError
from tunestream.rows.messages import MessageError, prompt_of, text_of
from tunestream.rows.values import check_depth, find_surrogate, json_value
from tunestream.sdk.event_records import NativeEvent, nat_record, native_record, score_record
from tunestream.sdk.pieces import WHOLE, NotInThisFormat, TurnsGo, in_pieces
from tunestream.sdk.turn import published_response
from tunestream.streams.publish import EncodedRecord

__all__ = ["LineError", "LineReader", "RecordedFormat", "likely_format", "line_reader"]

LineReader = Callable[[bytes, int], list[EncodedRecord]]


class RecordedFormat(StrEnum):
    """What a line holds."""

    NATIVE = "native"
    NAT = "nat"


class LineError(ValueError):
    """A line is no event of its format."""


def line_reader(
    form: RecordedFormat, *, run_id: str | None, source: str, restamp: bool = False, turns: TurnsGo = WHOLE
) -> LineReader:
    """Return a function from a line and the present (milliseconds) to the records to publish, mostly one.

    Args:
        form: native: the body of an event, e.g. of a TTCCandidate; nat: ``{"example_id": …, "step": …}``.
        run_id: the run to publish to; None keeps what a native line names.
        source: CloudEvents source.
        restamp: a step happens now, not at its ``event_timestamp``.
        turns: how they go.

    Raises:
        ValueError: for NAT steps without a run: they name none.
    """
    if form is RecordedFormat.NATIVE:
        return lambda line, now: _native(line, now, run_id, source, turns)
    if run_id is None:
        raise ValueError("steps of the NeMo Agent Toolkit name no run; pass run_id")
    return lambda line, now: [_nat(line, now, run_id, source, restamp=restamp)]


def likely_format(line: bytes) -> RecordedFormat | None:
    """Return what a line looks like by its keys, None when it looks like neither format."""
    try:
        fields = _object(line)
    except LineError:
        return None
    if fields.keys() & _KEYS_OF_STEPS:
        return RecordedFormat.NAT
    return RecordedFormat.NATIVE if fields.keys() & _KEYS_OF_EVENTS else None


_KEYS_OF_STEPS: Final = frozenset({"step", "payload", "function_ancestry"})
_KEYS_OF_EVENTS: Final = frozenset(
    {"run_id", "example_id", "turn_id", "response", "score", "items", "candidates"}
)


def _native(line: bytes, now: int, run_id: str | None, source: str, turns: TurnsGo) -> list[EncodedRecord]:
    fields = _object(line)
    if run_id is not None:
        fields["run_id"] = run_id
    model = _model_of(fields)
    try:
        event = model.model_validate(fields)
        return [_record(each, source, now) for each in in_pieces(_read(event), turns)]
    except ValidationError as error:
        raise LineError(_fields(error, model.__name__)) from error
    except (MessageError, NotInThisFormat) as error:
        raise LineError(str(error)) from error


def _record(event: NativeEvent, source: str, now: int) -> EncodedRecord:
    if isinstance(event, TTCScore):
        return score_record(event, partition=None, source=source, time=now)
    return native_record(event, source=source, time=now)


def _read(event: NativeEvent) -> NativeEvent:
    """Read prompt and responses; what is dropped of them is counted by the collector."""
    dropped = Counter[str]()
    if isinstance(event, TTCCandidate):
        prompt = prompt_of(event.prompt, "prompt", dropped)
        text = text_of(event.response, "response", dropped)
        return event.model_copy(update={"prompt": prompt, "response": text})
    if isinstance(event, TTCTurn):
        prompt = prompt_of(event.prompt, "prompt", dropped)
        candidates = [
            one.model_copy(
                update={"response": published_response(one.response, f"candidates.{at}.response", dropped)}
            )
            for at, one in enumerate(event.candidates)
        ]
        return event.model_copy(update={"prompt": prompt, "candidates": candidates})
    return event


def _model_of(fields: dict[str, Any]) -> type[NativeEvent]:
    """Find the kind of an event by the fields that only it has."""
    if "items" in fields:
        return TTCEpisode
    if "candidates" in fields:
        return TTCTurn
    if "source" in fields and not fields.keys() & {"response", "prompt"}:
        return TTCScore
    if fields.keys() & {"response", "score", "candidate_id", "prompt"}:
        return TTCCandidate
    return TTCTurnEnd if "turn_id" in fields else TTCExampleEnd


def _nat(line: bytes, now: int, run_id: str, source: str, *, restamp: bool) -> EncodedRecord:
    fields = _object(line)
    missing = [name for name in ("example_id", "step") if name not in fields]
    if missing:
        raise LineError(f'{", ".join(missing)} missing: a line is {{"example_id": …, "step": {{…}}}}')
    try:
        step = IntermediateStep.model_validate(fields["step"])
        _check_candidate(step)
    except ValidationError as error:
        raise LineError(_fields(error, "step")) from error
    except NotKept as error:
        raise LineError(f"step: {error}") from error
    stamped = None if restamp else step.payload.event_timestamp
    return nat_record(
        run_id,
        _example_of(fields["example_id"]),
        _dumps(fields["step"]),
        source=source,
        time=now if stamped is None else _milliseconds(stamped),
        step=step,
    )


def _example_of(value: object) -> str:
    if value == "" or isinstance(value, bool) or not isinstance(value, str | int):
        raise LineError("example_id: is neither a name nor a number of an example")
    return str(value)


def _milliseconds(stamped: float) -> int:
    """Return a step's time, which has to be one that RFC 3339 can write."""
    if not 0 <= stamped < _LATEST:  # also false for NaN
        raise LineError(f"step.payload.event_timestamp: {stamped} is no time in seconds since 1970")
    return int(stamped * 1000)


def _check_candidate(step: IntermediateStep) -> None:
    payload = step.payload
    if payload.event_type is IntermediateStepType.TTC_END:
        sent = payload.data
        data = sent and {name: getattr(sent, name, None) for name in ("input", "output", "score")}
        check_kept({"payload": {"metadata": payload.metadata, "data": data}})


def _object(line: bytes) -> dict[str, Any]:
    try:
        fields = json_value(line, _HERE, keep_numbers=True)
        check_depth(fields, _HERE)
    except RowError as error:
        raise LineError(error.detail) from error
    if not isinstance(fields, dict):
        raise LineError("is not a JSON object")
    half = find_surrogate(fields) if b"\\u" in line else None  # UTF-8 itself can hold none
    if half is not None:
        raise LineError(f"{half[0]}: not text: lone surrogate {half[1]}")
    return fields


_LATEST: Final = 253_402_300_800.0  # the year 10000
_HERE: Final = Place("", 1)  # callers know the line
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def _dumps(value: object) -> bytes:
    return _ENCODER.encode(value).encode()


def _fields(error: ValidationError, name: str) -> str:
    details = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{_place(one['loc']) or name}: {one['msg']}" for one in details)


def _place(fields: tuple[str | int, ...]) -> str:
    return ".".join(str(field) or "(a column without a name)" for field in fields)
