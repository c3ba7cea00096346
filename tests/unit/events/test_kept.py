"""Values of any shape: what every stage can write and read as it is, and what is refused by name."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.helpers.bad_records import candidate, nested
from tunestream.domain.collector.normaliser import normalise_native
from tunestream.events.base import NESTING_LIMIT, NotKept, check_kept
from tunestream.events.trajectories import DPOItem, Trajectory, TrajectoryCollection
from tunestream.events.ttc import CandidateStep, TTCCandidate

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_what_is_kept_comes_back_as_it_was(metadata: dict[str, Any]) -> None:
    check_kept(metadata)
    sent = TTCCandidate(**candidate("e", metadata=metadata))
    assert TTCCandidate.model_validate_json(sent.to_json()).metadata == metadata


def test_every_stage_reads_what_the_first_one_took() -> None:
    """What stages put around metadata is no more than the limit leaves room for."""
    sent = TTCCandidate.model_validate_json(json.dumps(candidate("e", metadata=nested(NESTING_LIMIT))))
    step = normalise_native(sent)
    assert isinstance(step, CandidateStep)
    read = CandidateStep.model_validate_json(step.to_json())
    pair = DPOItem(prompt="p", chosen_response="a", rejected_response="b")
    trajectory = Trajectory(episode=[pair], reward=1.0, metadata={"chosen": [read.raw_metadata]})
    group = TrajectoryCollection(run_id="r", trajectories=[[trajectory]])
    assert TrajectoryCollection.model_validate_json(group.to_json()) == group


@pytest.mark.parametrize("levels", [NESTING_LIMIT + 1, 198, 5_000])
def test_deeper_values_are_refused(levels: int) -> None:
    with pytest.raises(NotKept, match="deeper than 100 levels") as refused:
        check_kept(nested(levels))
    assert refused.value.code == "undecodable.nesting"


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"seconds": math.nan}, "seconds: nan"),
        ({"usage": [{"a": 1}, {"b": -math.inf}]}, "usage.1.b: -inf"),
        ([0.0, math.inf], "1: inf"),
        (math.nan, "nan"),
    ],
)
def test_a_number_that_is_not_finite_is_named(value: object, place: str) -> None:
    with pytest.raises(NotKept, match=f"^{place} is not finite") as refused:
        check_kept(value)
    assert refused.value.code == "non_finite"


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(ValidationError, match="metadata"):
        TTCCandidate(**candidate("e", metadata={"itself": value}))
