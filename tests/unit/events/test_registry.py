"""Event types: where they are registered, and against the catalogue of topics."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from pydantic import BaseModel

from tunestream.events.registry import (
    UnregisteredType,
    event_type,
    event_types,
    is_newer,
    model_of,
    type_of,
)
from tunestream.events.trajectories import DPOItem
from tunestream.events.ttc import ExampleEnd, Tick, TTCExampleEnd, TTCTurnEnd, TurnEnd
from tunestream.topics import CATALOGUE, KeyRule, Topic


class Body(BaseModel):
    """Stands in no registry."""


def test_every_type_of_a_topic_has_a_body_and_every_body_a_topic() -> None:
    assert {name for entry in CATALOGUE for name in entry.types} == set(event_types())


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_a_topic_loads_the_bodies_of_its_types(entry: Topic) -> None:
    assert {name: type_of(model) for name, model in entry.bodies().items()} == {
        name: name for name in entry.types
    }


@pytest.mark.parametrize("ce_type", event_types())
def test_types_and_bodies_name_each_other(ce_type: str) -> None:
    body = model_of(ce_type)
    assert body is not None
    assert type_of(body) == ce_type


@pytest.mark.parametrize("ce_type", event_types())
def test_a_type_ends_in_its_major_version(ce_type: str) -> None:
    assert re.fullmatch(r"(tunestream|nat)(\.[a-z_]+)+\.v[1-9]\d*", ce_type)


def test_what_was_validated_has_another_type_than_what_was_sent() -> None:
    turn = {"run_id": "r", "example_id": "e", "turn_id": "t"}
    example = {"run_id": "r", "example_id": "e"}
    assert type_of(TTCTurnEnd(**turn)) != type_of(TurnEnd(**turn))
    assert type_of(TTCExampleEnd(**example)) != type_of(ExampleEnd(**example))


def test_an_unknown_type_has_no_body() -> None:
    assert model_of("tunestream.candidate.v99") is None


def test_a_class_without_a_type_is_named_with_what_to_write_there() -> None:
    wanted = r'tunestream\.events\.trajectories\.DPOItem has no event type; register it with @event_type\("'
    with pytest.raises(UnregisteredType, match=wanted):
        type_of(DPOItem)


def test_a_topic_whose_type_nobody_registered_names_what_to_write_where() -> None:
    entry = Topic(
        name="news",
        description="News.",
        key=KeyRule.RUN,
        types=("tunestream.tick.v1", "tunestream.news.v1"),
    )
    wanted = (
        r'topic news carries tunestream\.news\.v1.*@event_type\("tunestream\.news\.v1"\).*tunestream/events'
    )
    with pytest.raises(UnregisteredType, match=wanted):
        entry.bodies()


def test_two_classes_of_one_type_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"tunestream\.tick\.v1 is the type of tunestream\.events\.ttc\.Tick"
    ):
        event_type("tunestream.tick.v1")(Body)
    with pytest.raises(UnregisteredType):
        type_of(Body)


def test_two_types_of_one_class_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ttc\.Tick has the type tunestream\.tick\.v1 already"):
        event_type("tunestream.tock.v1")(Tick)
    assert model_of("tunestream.tock.v1") is None


@pytest.mark.parametrize("name", ["", "tick", "tunestream.tick", "tunestream.tick.v0", "Tunestream.tick.v1"])
def test_a_type_without_family_or_major_version_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"write family\.vMAJOR"):
        event_type(name)


@pytest.mark.parametrize(
    ("ce_type", "newer"),
    [
        ("a.b.v4", True),
        ("a.b.v10", True),
        ("a.b.v3", False),
        ("a.b.v2", False),
        ("a.b.v1", False),
        ("a.c.v4", False),
        ("a.b.c.v4", False),
        ("a.v4", False),
        ("a.b", False),
        ("a.b.v04", False),
        ("a.b.v-4", False),
        ("a.b.v٤", False),
        ("a.b.v4 ", False),
        ("a.b.v" + "9" * 5_000, False),
        ("", False),
    ],
)
def test_newer_is_a_known_family_with_a_higher_major(ce_type: str, newer: bool) -> None:
    assert is_newer(ce_type, ["a.b.v1", "a.b.v3", "a.d.v9"]) is newer


def test_the_catalogue_alone_loads_no_family_and_one_that_is_needed_is_loaded() -> None:
    code = """
import sys
import tunestream.topics
families = ("live", "models", "nat", "runs", "training", "trajectories", "ttc")
loaded = [name for name in families if f"tunestream.events.{name}" in sys.modules]
assert not loaded, loaded
from tunestream.events.registry import model_of
assert model_of("tunestream.run.v1").__name__ == "RunRecord"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
