"""``Wire.of_valid`` makes what validation makes, for every class of body and of part of a body."""

from __future__ import annotations

import importlib
import pkgutil
import types
import typing
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Literal

import pytest
from pydantic import AwareDatetime, BaseModel, Field, create_model

import tunestream.events
from tunestream.events.base import Wire
from tunestream.events.training import CurriculumState
from tunestream.events.ttc import CandidateStep

SAMPLES: dict[Any, Any] = {
    str: "text",
    int: 1,
    float: 0.5,
    bool: True,
    AwareDatetime: datetime(2026, 1, 2, tzinfo=UTC),
    datetime: datetime(2026, 1, 2, tzinfo=UTC),
    Any: {"any": [1, None]},
}


def wire_classes(of: type[Wire] = Wire) -> Iterator[type[Wire]]:
    for module in pkgutil.iter_modules(tunestream.events.__path__, "tunestream.events."):
        importlib.import_module(module.name)
    for inner in of.__subclasses__():
        if inner.__module__.startswith("tunestream.events."):
            yield inner
            yield from wire_classes(inner)


def sample(annotation: Any) -> Any:
    """Return a value of a type, as a JSON reader would give it."""
    if annotation in SAMPLES:
        return SAMPLES[annotation]
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return inner[0]
    if origin is list:
        return [sample(inner[0])]
    if origin is tuple:
        return [sample(one) for one in inner]
    if origin is dict:
        return {"key": sample(inner[1])}
    if origin in {typing.Union, types.UnionType, typing.Annotated}:
        return sample(inner[0])
    if issubclass(annotation, Enum):
        return next(iter(annotation))
    return required(annotation)


def required(model: type[BaseModel]) -> dict[str, Any]:
    """Return values of a model's required fields alone."""
    return {
        name: sample(field.annotation) for name, field in model.model_fields.items() if field.is_required()
    }


def validated(model: type[Wire]) -> tuple[Wire, dict[str, Any]]:
    """Return a body made of required fields alone, and the values that it has of these."""
    given = required(model)
    body = model.model_validate(given)
    return body, {name: getattr(body, name) for name in given}


def grown(model: type[Wire]) -> type[Wire]:
    """Return the model with two more optional fields, as a later release may have it."""
    extra: dict[str, Any] = {
        "added_note": (str | None, None),
        "added_marks": (list[str], Field(default_factory=list)),
    }
    return create_model(f"Grown{model.__name__}", __base__=model, **extra)


CLASSES = sorted(set(wire_classes()), key=lambda model: model.__name__)


@pytest.mark.parametrize("make", [lambda model: model, grown], ids=["today", "with new fields"])
@pytest.mark.parametrize("model", CLASSES, ids=lambda model: model.__name__)
def test_required_fields_are_enough(model: type[Wire], make: Any) -> None:
    model = make(model)
    wanted, values = validated(model)

    body = model.of_valid(**values)

    assert body == wanted
    assert body.to_json() == wanted.to_json() == wanted.model_dump_json().encode()
    assert model.model_validate_json(body.to_json()) == body
    assert all(getattr(body, name) == getattr(wanted, name) for name in model.model_fields)


@pytest.mark.parametrize("model", CLASSES, ids=lambda model: model.__name__)
def test_a_field_that_the_caller_does_not_know_gets_its_default(model: type[Wire]) -> None:
    everything = {name: getattr(validated(model)[0], name) for name in model.model_fields}

    body = grown(model).of_valid(**everything)

    assert (body.added_note, body.added_marks) == (None, [])  # type: ignore[attr-defined]
    assert grown(model).model_validate_json(body.to_json()).model_dump() == body.model_dump()


def test_defaults_are_not_shared() -> None:
    _, values = validated(CandidateStep)

    CandidateStep.of_valid(**values).raw_metadata["mark"] = 1

    assert CandidateStep.of_valid(**values).raw_metadata == {}


def test_a_missing_required_field_is_named() -> None:
    with pytest.raises(TypeError, match="CurriculumState has no default for current_percentile"):
        CurriculumState.of_valid(last_expansion_epoch=3)
