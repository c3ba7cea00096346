"""The registry of types against the catalogue of topics."""

from __future__ import annotations

import re

import pytest

from tunestream.events.trajectories import DPOItem
from tunestream.events.ttc import ExampleEnd, TTCExampleEnd, TTCTurnEnd, TurnEnd
from tunestream.events.types import EVENT_TYPES, model_of, type_of
from tunestream.topics import CATALOGUE


def test_every_body_of_a_topic_has_a_type_and_every_type_a_topic() -> None:
    assert {body for entry in CATALOGUE for body in entry.bodies} == set(EVENT_TYPES.values())


@pytest.mark.parametrize("ce_type", EVENT_TYPES)
def test_types_and_bodies_name_each_other(ce_type: str) -> None:
    body = model_of(ce_type)
    assert body is not None
    assert type_of(body) == ce_type


@pytest.mark.parametrize("ce_type", EVENT_TYPES)
def test_a_type_ends_in_its_major_version(ce_type: str) -> None:
    assert re.fullmatch(r"(tunestream|nat)(\.[a-z_]+)+\.v[1-9]\d*", ce_type)


def test_what_was_validated_has_another_type_than_what_was_sent() -> None:
    turn = {"run_id": "r", "example_id": "e", "turn_id": "t"}
    example = {"run_id": "r", "example_id": "e"}
    assert type_of(TTCTurnEnd(**turn)) != type_of(TurnEnd(**turn))
    assert type_of(TTCExampleEnd(**example)) != type_of(ExampleEnd(**example))


def test_unknown_types_are_nobody() -> None:
    assert model_of("tunestream.candidate.v99") is None
    with pytest.raises(KeyError):
        type_of(DPOItem)
