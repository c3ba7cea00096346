"""What counts as a break of a released schema, each on a change made to a real model."""

from __future__ import annotations

import copy
from enum import StrEnum
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from tools.wire import breaking_changes, schema_of
from tunestream.events.registry import event_types


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(BaseModel):
    size: int


class Other(BaseModel):
    label: str


class Released(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str = Field(min_length=1, max_length=8)
    colour: Colour
    kind: Literal["a", "b"]
    share: float = Field(ge=0.0, le=1.0)
    inner: Inner
    items: list[Inner] | list[Other] | str
    counts: dict[str, int]
    note: str | None = None
    anything: Any = None


def changed(**fields: Any) -> dict[str, Any]:
    """The released model with fields added or changed, or removed by None."""
    given = {name: (field.annotation, field) for name, field in Released.model_fields.items()}
    kept = {name: value for name, value in (given | fields).items() if value is not None}
    namespace = {name: default for name, (_, default) in kept.items() if default is not ...}
    annotations = {name: annotation for name, (annotation, _) in kept.items()}
    config = {"model_config": Released.model_config, "__annotations__": annotations, "__module__": __name__}
    model: Any = type("Changed", (BaseModel,), namespace | config)
    schema: dict[str, Any] = model.model_json_schema()
    return schema


class Red(StrEnum):
    RED = "red"


class Smaller(BaseModel):
    size: int = Field(le=10)


class Grown(BaseModel):
    size: int
    unit: str


BREAKS: dict[str, tuple[dict[str, Any], str]] = {
    "a field is removed": ({"note": None}, "body.note: was removed"),
    "a required field is added": ({"more": (str, ...)}, "body.more: became required"),
    "an optional field becomes required": ({"note": (str | None, ...)}, "body.note: became required"),
    "a required field becomes optional": (
        {"colour": (Colour, Colour.RED)},
        "body.colour: may be missing now",
    ),
    "a type is replaced": ({"name": (int, ...)}, "body.name: no longer takes string"),
    "null is refused": ({"note": (str, "")}, "body.note: no longer takes null"),
    "a number becomes an integer": ({"share": (int, ...)}, "body.share: no longer takes number"),
    "a value is removed from an enum": ({"colour": (Red, ...)}, "body.colour: no longer takes 'blue'"),
    "a value is removed from a literal": ({"kind": (Literal["a"], ...)}, "body.kind: no longer takes 'b'"),
    "text becomes an enum": ({"name": (Colour, ...)}, "body.name: takes only 'red', 'blue' now"),
    "a lower bound rises": (
        {"name": (str, Field(min_length=2, max_length=8))},
        "body.name: minLength is 2 now",
    ),
    "an upper bound falls": ({"share": (float, Field(ge=0.0, le=0.5))}, "body.share: maximum is 0.5 now"),
    "a pattern appears": (
        {"name": (str, Field(min_length=1, max_length=8, pattern="^a"))},
        "body.name: pattern is '^a' now",
    ),
    "an inner field narrows": ({"inner": (Smaller, ...)}, "body.inner.size: maximum is 10 now"),
    "an inner field is added": ({"inner": (Grown, ...)}, "body.inner.unit: became required"),
    "an alternative is dropped": (
        {"items": (list[Inner] | str, ...)},
        "body.items[].label: was removed",
    ),
    "the values of a map narrow": (
        {"counts": (dict[str, Colour], ...)},
        "body.counts.*: no longer takes integer",
    ),
    "what was free gets a type": ({"anything": (int, 0)}, "body.anything: no longer takes everything"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_break_is_found(name: str) -> None:
    fields, said = BREAKS[name]
    assert said in breaking_changes(Released.model_json_schema(), changed(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"more": (str | None, None)}, id="an optional field is added"),
        pytest.param({"share": (float | str, ...)}, id="a type is added"),
        pytest.param({"kind": (Literal["a", "b", "c"], ...)}, id="a value is added"),
        pytest.param({"name": (str, Field(min_length=0, max_length=9))}, id="bounds are loosened"),
        pytest.param({"counts": (dict[str, float], ...)}, id="integers become numbers"),
        pytest.param({"items": (str | list[Other] | list[Inner], ...)}, id="alternatives change places"),
    ],
)
def test_a_compatible_change_is_none(fields: dict[str, Any]) -> None:
    assert breaking_changes(Released.model_json_schema(), changed(**fields)) == []


def test_other_fields_are_refused_from_now_on() -> None:
    closed = Released.model_json_schema() | {"additionalProperties": False}
    assert breaking_changes(Released.model_json_schema(), closed) == ["body: no longer takes other fields"]


@pytest.mark.parametrize("ce_type", event_types())
def test_every_field_of_every_type_is_guarded(ce_type: str) -> None:
    """Whatever field is taken out of a wire schema, the check names it."""
    schema = schema_of(ce_type)
    assert breaking_changes(schema, schema) == []
    for name in schema["properties"]:
        without = copy.deepcopy(schema)
        del without["properties"][name]
        assert f"body.{name}: was removed" in breaking_changes(schema, without)
