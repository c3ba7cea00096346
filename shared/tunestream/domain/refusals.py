"""From a body that its model refuses to a reason with a stable name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError

from tunestream.domain.effects import Refused

__all__ = ["refusal_of"]

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


def refusal_of(error: ValidationError, name: str) -> Refused:
    """Return in one line what is wrong with a body of class ``name`` and where."""
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
