"""Candidates that follow one another are taken at once: what comes of it is what comes of each alone."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

from hypothesis import example, given
from hypothesis import strategies as st

from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.domain.turns.offline import OfflineBuilder, Summary
from tunestream.domain.turns.pair_rows import pair_line
from tunestream.domain.turns.recorded_pairs import pairs_as_stream

CONFIG = DPOTrajectoryBuilderConfig.model_validate(
    {"ttc_step_name": "s", "turn_timeout": "3s", "turn_memory": "60s", "max_candidates_per_turn": 3}
)
Result = tuple[list[bytes], dict[str, Any], list[tuple[int, str]]]


def candidate(turn: str, name: str, seconds: float | None, **data: Any) -> bytes:
    data = {"input": "p", "output": name, "turn_id": turn, "score": 1.0, **data}
    return payload("e", event_type="TTC_END", name="s", event_timestamp=seconds, UUID=name, data=data)


def payload(example: str, **fields: Any) -> bytes:
    return json.dumps({"example_id": example, "step": {"payload": fields}}).encode()


END = payload("e", event_type="WORKFLOW_END", event_timestamp=1.0)
OTHER = payload("e", event_type="LLM_END", event_timestamp=900.0)
CANDIDATES = st.builds(
    candidate,
    st.sampled_from(["t", "t", "t", "u"]),
    st.sampled_from("abcdefgh"),
    st.none() | st.sampled_from([1, 2, 2.5, 5, 8, 100]),
    input=st.sampled_from(["p", "p", "p", "q"]),
    output=st.sampled_from("xyz"),
    score=st.sampled_from([0.0, 0.5, 1, None]),
    candidate_index=st.none() | st.integers(0, 2),
)
TURN = json.dumps(
    {
        "run_id": "r",
        "example_id": "e",
        "turn_id": "t",
        "prompt": "p",
        "candidates": [{"candidate_id": name, "response": name, "score": 0} for name in "ab"],
    }
).encode()


def pairs(lines: list[bytes]) -> Result:
    summary = Summary()
    refused: list[tuple[int, str]] = []
    found = pairs_as_stream(lines, CONFIG, summary, lambda line, why: refused.append((line, str(why))))
    return [pair_line(each) for each in found], summary.to_dict(), refused


def one_by_one(lines: list[bytes]) -> Result:
    with patch.object(OfflineBuilder, "is_new", lambda *_: False):
        return pairs(lines)


@given(st.lists(CANDIDATES | st.sampled_from([END, OTHER, TURN]), max_size=12))
@example([candidate("t", "a", 1), candidate("t", "b", 3.9), candidate("t", "c", 6.9), END])
@example([candidate("t", name, 1) for name in "abcd"])
@example([candidate("t", "a", 1), END, candidate("t", "b", 1), candidate("t", "c", 1)])
@example([candidate("t", "a", 1), candidate("t", "a", 1), candidate("t", "a", 1, score=2.0)])
@example([candidate("t", "a", 1), candidate("t", "b", 1, score=None), candidate("t", "c", 1)])
def test_candidates_taken_at_once_are_as_good_as_one_by_one(lines: list[bytes]) -> None:
    assert pairs(lines) == one_by_one(lines)


def test_a_turn_in_a_row_is_taken_at_once_and_one_that_is_known_is_not() -> None:
    took: list[int] = []
    take = OfflineBuilder.take

    def counting(self: OfflineBuilder, event: Any, *, time: int | None = None) -> Any:
        took.append(len(getattr(event, "candidates", ())))
        return take(self, event, time=time)

    with patch.object(OfflineBuilder, "take", counting):
        pairs([*(candidate("t", name, 1) for name in "ab"), OTHER, candidate("t", "c", 2), TURN, END])
        assert took == [3, 2, 0]
        took.clear()
        pairs(
            [candidate("t", "a", 1), candidate("u", "b", 1), candidate("t", "c", 1), candidate("t", "d", 1)]
        )
    assert took == [1, 1, 1, 1]
