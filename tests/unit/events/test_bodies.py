"""What holds for every body on the wire, tried on the normative example of each type."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from functools import cache, reduce
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from tools.wire import examples
from tunestream.events.base import Foreign, Wire
from tunestream.events.messages import OpenAIMessage
from tunestream.events.nat import IntermediateStep
from tunestream.events.registry import event_types, model_of
from tunestream.events.trajectories import CloseReason, DPOItem, MemberScore, Trajectory, TrajectoryGroup

Path = tuple[str | int, ...]

# Values under these names belong to the agent or to the run's configuration: any JSON.
FREE = {"metadata", "raw_metadata", "config", "data", "usage_info", "tools"}
# Objects under these names are maps, whose keys are no fields.
MAPS = FREE | {"dropped", "skipped", "metrics", "logprobs"}
PUBLISHED = {"tunestream.ttc.candidate.v1", "tunestream.ttc.turn.v1"}
OURS = [name for name, model in event_types().items() if issubclass(model, Wire)]


@cache
def bodies() -> dict[str, Any]:
    return {example.ce_type: json.loads(example.value) for example in examples()}


def model(ce_type: str) -> type[BaseModel]:
    found = model_of(ce_type)
    assert found is not None
    return found


def places(value: object, *, free: set[str], at: Path = ()) -> Iterator[tuple[Path, object]]:
    """Walk a body, leaving out what lies under the names in ``free``."""
    if at and at[-1] in free:
        return
    yield at, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield from places(inner, free=free, at=(*at, name))


def changed(body: object, at: Path, name: str | int, value: object) -> bytes:
    """Return the JSON of a body with one field set."""
    copy = deepcopy(body)
    parent: Any = reduce(lambda found, key: found[key], at, copy)  # type: ignore[index]
    parent[name] = value
    return json.dumps(copy).encode()


def test_every_type_has_an_example() -> None:
    assert bodies().keys() == event_types().keys()


@pytest.mark.parametrize("ce_type", OURS)
def test_an_unknown_field_of_ours_is_refused_wherever_it_is(ce_type: str) -> None:
    body = bodies()[ce_type]
    # What published messages may hold is for the collector to judge.
    free = MAPS | {"prompt", "response"} if ce_type in PUBLISHED else MAPS
    objects = [at for at, value in places(body, free=free) if isinstance(value, dict)]
    assert objects[0] == ()
    for at in objects:
        with pytest.raises(ValidationError, match="misspelt"):
            model(ce_type).model_validate_json(changed(body, at, "misspelt", 1))


def test_an_unknown_field_of_a_foreign_event_is_tolerated() -> None:
    body = bodies()["nat.intermediate_step.v1"]
    for at, value in places(body, free={"metadata", "usage_info"}):
        if isinstance(value, dict):
            IntermediateStep.model_validate_json(changed(body, at, "new_in_nat_2", {"a": [1]}))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("ce_type", OURS)
def test_numbers_are_finite_wherever_they_are(ce_type: str, number: float) -> None:
    body = bodies()[ce_type]
    for at, value in places(body, free=FREE):
        if isinstance(value, int | float) and not isinstance(value, bool):
            with pytest.raises(ValidationError):
                model(ce_type).model_validate_json(changed(body, at[:-1], at[-1], number))


@pytest.mark.parametrize("ce_type", event_types())
def test_a_body_is_not_changed_once_it_is_made(ce_type: str) -> None:
    body = model(ce_type).model_validate(bodies()[ce_type])
    name = next(iter(type(body).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(body, name, None)


@pytest.mark.parametrize("ce_type", OURS)
def test_identifiers_are_neither_empty_nor_endless(ce_type: str) -> None:
    for run_id in ("", "r" * 513):
        if ce_type != "tunestream.training_status.v1":
            with pytest.raises(ValidationError, match="run_id"):
                model(ce_type).model_validate(bodies()[ce_type] | {"run_id": run_id})


def test_foreign_models_are_not_ours() -> None:
    assert {name for name, kind in event_types().items() if issubclass(kind, Foreign)} == {
        "nat.intermediate_step.v1"
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(), JSON, max_size=3), st.text(), st.floats(allow_nan=False, allow_infinity=False)
)
@example({"seed": 1 << 70}, "", 0.0)
@example(json.loads('{"a":' * 190 + "1" + "}" * 190), "", 0.0)
def test_a_body_is_written_as_its_model_would_write_it(
    metadata: dict[str, Any], text: str, number: float
) -> None:
    score = MemberScore(id="m", index=None, score=number)
    item = DPOItem(
        prompt=[OpenAIMessage(role="user", content=text)], chosen_response=text, rejected_response=""
    )
    group = TrajectoryGroup(
        run_id="r",
        group_id="g",
        example_id="e",
        turn_id=text,
        config_digest="d",
        kind="preference",
        closed_by=CloseReason.TIMEOUT,
        scores=[score],
        trajectories=[Trajectory(episode=[item], reward=number, metadata=metadata)],
        skipped={"tie": 1},
    )
    assert group.to_json() == group.model_dump_json().encode()
