"""JSON Schemas of the bodies."""

from __future__ import annotations

from typing import Any, Final

from tunestream.events.registry import event_types

__all__ = ["DIALECT", "schema_of"]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema_of(ce_type: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the bodies of an event type.

    Raises:
        KeyError: when there is no such type.
    """
    schema = event_types()[ce_type].model_json_schema()
    return {"$schema": DIALECT, "$id": f"urn:tunestream:{ce_type}", **schema}
