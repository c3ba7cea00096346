"""From a Kafka record to a typed event, or to a refusal that says what is wrong with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from aiokafka import ConsumerRecord
from pydantic import BaseModel, ValidationError

from tunestream.domain.effects import Refused
from tunestream.events.cloudevents import Envelope, HeaderError
from tunestream.events.types import EVENT_TYPES
from tunestream.streams.handler import Inbound

__all__ = ["accepted_types", "decode", "original_time", "refusal_of"]

# pydantic's error types, by what the sender has to mend.
_CODES: Final[Mapping[str, str]] = {
    "json_invalid": "undecodable.json",
    "finite_number": "non_finite",
    "missing": "schema.missing",
    "extra_forbidden": "schema.unknown_field",
    "string_too_short": "schema.bounds",
    "string_too_long": "schema.bounds",
    "too_short": "schema.bounds",
    "greater_than_equal": "schema.bounds",
    "less_than_equal": "schema.bounds",
    "enum": "schema.value",
    "literal_error": "schema.value",
    "value_error": "schema.value",
    "recursion_loop": "undecodable.nesting",
}
_MESSAGE_LENGTH: Final = 500


def accepted_types(bodies: Collection[type[BaseModel]]) -> dict[str, type[BaseModel]]:
    """Return the ``ce_type`` names that a topic with these bodies takes."""
    return {name: body for name, body in EVENT_TYPES.items() if body in bodies}


def decode(record: ConsumerRecord, accepted: Mapping[str, type[BaseModel]]) -> Inbound:
    """Decode one record.

    Args:
        record: as consumed, value and key in bytes.
        accepted: the types that its topic takes; see :func:`accepted_types`.

    Raises:
        Refused: with the reason and the remedy.
    """
    try:
        envelope = Envelope.from_headers(record.headers)
    except HeaderError as error:
        raise Refused("undecodable.header", str(error)) from error
    body = accepted.get(envelope.type)
    if body is None:
        raise Refused(
            "schema.type",
            f"header ce_type is {envelope.type!r}; this topic takes {', '.join(sorted(accepted))}",
        )
    value = record.value
    if not value:
        raise Refused("undecodable.empty", f"the body is empty; send the JSON of a {body.__name__}")
    try:
        decoded = body.model_validate_json(value)
    except ValidationError as error:
        raise refusal_of(error, body.__name__) from error
    return Inbound(record.key, value, record.timestamp, record.partition, record.offset, envelope, decoded)


def original_time(envelope: Envelope) -> int | None:
    """Return an event's time before it was replayed from the dead letters, ms; None when it was not.

    Raises:
        Refused: when the header is no time.
    """
    try:
        return envelope.original_time
    except HeaderError as error:
        raise Refused("undecodable.header", str(error)) from error


def refusal_of(error: ValidationError, name: str) -> Refused:
    """Say in one line what is wrong with a body of class ``name`` and where."""
    details = error.errors(include_url=False, include_context=False)
    first = next((detail for detail in details if detail["type"] in _CODES), details[0])
    code = _CODES.get(first["type"], "schema.wrong_type")
    if code == "undecodable.json":
        code = _json_code(first["msg"])
    places = "; ".join(
        f"field {'.'.join(map(str, detail['loc'])) or name}: {detail['msg']}" for detail in details[:5]
    )
    return Refused(code, f"not a valid {name}: {places}"[:_MESSAGE_LENGTH])


def _json_code(message: str) -> str:
    lowered = message.lower()
    if "recursion" in lowered:
        return "undecodable.nesting"
    if "unicode" in lowered or "utf-8" in lowered or "surrogate" in lowered:
        return "undecodable.utf8"
    if "nan" in lowered or "inf" in lowered:
        return "non_finite"
    return "undecodable.json"
