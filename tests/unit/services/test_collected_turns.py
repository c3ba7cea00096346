"""What the collector makes of a turn that is one record, of scores, and of what only they can hold."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.helpers.collecting import Collecting
from tests.unit.domain.gate.test_core import configuration
from tunestream.config.run.reward import RewardFunctionConfig
from tunestream.events.ids import candidate_id
from tunestream.events.keys import encode_key

RUN = configuration()
LATER = RUN.model_copy(update={"scores": "later"})
TURN = "tunestream.ttc.turn.v1"
SCORE = "tunestream.ttc.score.v1"
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TOOL = {"type": "function", "function": {"name": "f"}}


def member(name: str, **changes: Any) -> dict[str, Any]:
    fields = {"candidate_id": name, "response": f"answer {name}", "score": 0.5} | changes
    return {key: value for key, value in fields.items() if value is not ...}


def turn(*members: Any, **changes: Any) -> bytes:
    names = {"run_id": "r", "example_id": "e", "turn_id": "t"}
    return json.dumps(names | {"prompt": "p", "candidates": list(members)} | changes).encode()


def ids(*names: str) -> list[str]:
    return [candidate_id("r", "e", "t", name) for name in names]


def taken(collecting: Collecting, *members: Any, **changes: Any) -> dict[str, Any]:
    ((ce_type, body),) = collecting.take(TURN, turn(*members, **changes))
    assert ce_type == "tunestream.turn.v1"
    return dict(json.loads(body))


def test_a_turn_goes_on_as_one_record() -> None:
    found = taken(
        Collecting(RUN), member("a", metadata={"k": 1}), member("b", policy_version="v2"), policy_version="v1"
    )
    assert found == {
        "run_id": "r",
        "example_id": "e",
        "turn_id": "t",
        "prompt": "p",
        "candidates": [
            {
                "candidate_id": ids("a")[0],
                "response": "answer a",
                "score": 0.5,
                "policy_version": "v1",
                "raw_metadata": {"k": 1},
            },
            {
                "candidate_id": ids("b")[0],
                "response": "answer b",
                "score": 0.5,
                "policy_version": "v2",
                "raw_metadata": {},
            },
        ],
        "complete": True,
    }


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (member("x", score=...), "schema.missing"),
        (member("x", response=...), "schema.missing"),
        (member("x", score=float("nan")), "non_finite"),
        (member("x", score=float("-inf")), "non_finite"),
        (member("x", score=1e200), "schema.score_range"),
        (member("x", score="high"), "schema.wrong_type"),
        (member("x", scores=1), "schema.unknown_field"),
        (member("x", metadata={"a": float("nan")}), "non_finite"),
        (member("x", response={"role": "user", "content": "w"}), "schema.wrong_type"),
        (member("", response="w"), "schema.bounds"),
        (member("x", token_ids=[]), "schema.bounds"),
        (member("a", response="something else"), "contradiction"),
        (member("a", score=0.75), "contradiction"),
        (member("a", candidate_index=4), "contradiction"),
        (3, "schema.wrong_type"),
    ],
)
def test_a_candidate_at_fault_is_left_out_alone(fault: Any, code: str) -> None:
    collecting = Collecting(RUN)
    found = taken(collecting, member("a"), fault, member("b"), member("c"), fault)
    assert [one["candidate_id"] for one in found["candidates"]] == ids("a", "b", "c")
    (refused,) = collecting.refused
    assert refused.code == code
    assert "left out of 5 candidates: 1, 4" in refused.message


def test_the_first_fault_gives_the_code_and_all_positions_are_named() -> None:
    collecting = Collecting(RUN)
    bad = member("x", score=...)
    taken(collecting, bad, bad, bad, member("a"), member("y", score=1e300))
    (refused,) = collecting.refused
    assert refused.code == "schema.missing"
    assert "0-2, 4;" in refused.message


def test_more_candidates_than_a_turn_may_have_are_left_out() -> None:
    builder = RUN.trajectory_builder.model_copy(update={"max_candidates_per_turn": 2})
    collecting = Collecting(RUN.model_copy(update={"trajectory_builder": builder}))
    found = taken(collecting, member("a"), member("b"), member("c"), member("a"), member("d"))
    assert [one["candidate_id"] for one in found["candidates"]] == ids("a", "b")
    assert collecting.refused[0].code == "turn_full"
    assert "2, 4;" in collecting.refused[0].message
    assert collecting.effects.counts["duplicate"] == 1


def test_a_repeat_in_a_turn_counts_once() -> None:
    collecting = Collecting(RUN)
    assert len(taken(collecting, member("a"), member("a"), member("b"))["candidates"]) == 2
    assert collecting.effects.counts["duplicate"] == 1
    assert not collecting.refused


def test_a_complete_turn_of_faults_alone_still_ends() -> None:
    """Parts of it may be open."""
    collecting = Collecting(RUN)
    ((ce_type, _),) = collecting.take(TURN, turn(member("a", score=...)))
    assert ce_type == "tunestream.turn_end.v1"
    assert collecting.take(TURN, turn(member("a", score=...), complete=False)) == []
    assert [one.code for one in collecting.refused] == ["schema.missing"] * 2


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"prompt": ...}, "schema.missing"),
        ({"prompt": [{"content": "no role"}]}, "schema.missing"),
        ({"prompt": 3}, "schema.wrong_type"),
        ({"candidates": []}, "schema.bounds"),
        ({"turn_id": ""}, "schema.bounds"),
        ({"tools": [{"type": "custom", "function": {"name": "f"}}]}, "schema.wrong_type"),
        ({"tools": [{"function": {}}]}, "schema.missing"),
        ({"tools": ["f"]}, "schema.wrong_type"),
        ({"complet": True}, "schema.unknown_field"),
        ({"expected_candidates": 0}, "schema.bounds"),
        ({"example_id": "other"}, "wrong_key"),
        ({"run_id": "unknown"}, "unknown_run"),
    ],
)
def test_a_fault_of_the_envelope_refuses_the_turn(changes: dict[str, Any], code: str) -> None:
    fields = json.loads(turn(member("a"))) | changes
    value = json.dumps({name: one for name, one in fields.items() if one is not ...}).encode()
    collecting = Collecting(RUN)
    assert collecting.take(TURN, value) == []
    assert [one.code for one in collecting.refused] == [code]


def test_a_turn_may_have_tools_tokens_and_messages() -> None:
    found = taken(
        Collecting(RUN),
        member("a", response=CALLING, token_ids=[1, 2]),
        member("b", response=[{"role": "assistant", "content": [{"type": "text", "text": "b"}]}]),
        prompt=[{"content": "w?", "role": "user", "id": 3}],
        tools=[{"type": "function", "function": {"name": "f", "description": None}}],
        prompt_token_ids=[3],
    )
    assert found["tools"] == [TOOL]
    assert found["prompt_token_ids"] == [3]
    first, second = found["candidates"]
    assert first["response"] == {"role": "assistant", "content": "", "tool_calls": [CALL]}
    assert first["token_ids"] == [1, 2]
    assert second["response"] == "b"


def test_the_answer_at_the_end_of_a_prompt_is_taken_off_for_its_candidate() -> None:
    asked = [{"role": "user", "content": "w?"}]
    prompt = [*asked, {"role": "assistant", "content": "answer a"}]
    bodies = [
        json.loads(body)
        for _, body in Collecting(RUN).take(TURN, turn(member("a"), member("b"), prompt=prompt))
    ]
    assert [body["prompt"] for body in bodies] == [asked, prompt]
    assert [body["complete"] for body in bodies] == [False, True]
    builder = RUN.trajectory_builder.model_copy(update={"nat_parity": True})
    parity = Collecting(RUN.model_copy(update={"trajectory_builder": builder}))
    assert taken(parity, member("a"), member("b"), prompt=prompt)["prompt"] == prompt


@pytest.mark.parametrize(
    "run", [LATER, RUN.model_copy(update={"reward_function": RewardFunctionConfig(name="f")})]
)
def test_candidates_come_without_scores_where_these_come_later(run: Any) -> None:
    found = taken(Collecting(run), member("a", score=...), member("b"))
    assert [one.get("score") for one in found["candidates"]] == [None, 0.5]


def test_below_the_format_of_turns_a_turn_is_its_candidates_and_its_end() -> None:
    found = Collecting(RUN, number=2).take(TURN, turn(member("a"), member("b"), expected_candidates=2))
    types = [ce_type for ce_type, _ in found]
    assert types == ["tunestream.candidate.v1"] * 2 + ["tunestream.turn_end.v1"]
    assert json.loads(found[0][1]) == {
        "run_id": "r",
        "example_id": "e",
        "turn_id": "t",
        "candidate_id": ids("a")[0],
        "candidate_index": None,
        "prompt": "p",
        "response": "answer a",
        "score": 0.5,
        "expected_candidates": 2,
        "policy_version": None,
        "raw_metadata": {},
    }


@pytest.mark.parametrize(
    "value",
    [
        turn(member("a"), member("b", response=CALLING)),
        turn(member("a", token_ids=[1])),
        turn(member("a"), tools=[TOOL]),
        turn(member("a"), prompt_token_ids=[1]),
        turn(member("a", score=...)),
    ],
)
def test_what_a_lower_format_cannot_hold_is_refused_until_the_upgrade_is_finished(value: bytes) -> None:
    collecting = Collecting(LATER, number=2)
    assert collecting.take(TURN, value) == []
    (refused,) = collecting.refused
    assert refused.code == "newer_type", "it can be replayed"
    assert "tunestream upgrade finish" in refused.message


def score(**changes: Any) -> bytes:
    names = {"run_id": "r", "example_id": "e", "turn_id": "t", "candidate_id": "a"}
    return json.dumps(names | {"score": 1.0, "source": "me"} | changes).encode()


def test_a_score_names_its_candidate_as_the_stream_does() -> None:
    ((ce_type, body),) = Collecting(LATER).take(SCORE, score())
    assert ce_type == "tunestream.score.v1"
    assert json.loads(body)["candidate_id"] == ids("a")[0]


def test_a_score_of_a_run_that_takes_none_is_refused() -> None:
    collecting = Collecting(RUN)
    assert collecting.take(SCORE, score()) == []
    assert collecting.refused[0].code == "wrong_builder"
    assert "scores: later" in collecting.refused[0].message


def test_copies_of_a_score_may_lie_anywhere_and_go_on_marked() -> None:
    collecting = Collecting(LATER)
    collecting.take(SCORE, score(), b"elsewhere", tseverywhere="1")
    (output,) = collecting.effects.outbound
    assert (output.partition, output.extensions["tseverywhere"]) == (3, "1")
    assert output.key == ("r", "e")
    collecting.take(SCORE, score(), encode_key("r", "other"))
    assert [one.code for one in collecting.refused] == ["wrong_key"]


def step(**data: Any) -> bytes:
    fields = {"turn_id": "t", "candidate_index": 0, "score": 0.5, "input": "p", "output": "a"} | data
    kept = {name: value for name, value in fields.items() if value is not ...}
    payload = {
        "event_type": "TTC_END",
        "name": "dpo_candidate_move",
        "UUID": "u",
        "data": kept,
    }
    return json.dumps({"payload": payload}).encode()


def of_step(collecting: Collecting, **data: Any) -> list[tuple[str, bytes]]:
    return collecting.take("nat.intermediate_step.v1", step(**data), tsrun="r", tsexample="e")


@pytest.mark.parametrize(
    ("data", "response", "score"),
    [
        ({"score": ...}, "a", None),
        ({"score": None}, "a", None),
        ({"score": float("nan")}, None, None),
        ({"output": [CALLING]}, {"role": "assistant", "content": "", "tool_calls": [CALL]}, 0.5),
        (
            {"output": CALLING | {"reasoning_content": "so"}, "score": ...},
            {**CALLING, "content": "", "reasoning_content": "so"},
            None,
        ),
    ],
)
def test_a_step_that_no_single_candidate_can_hold_is_a_turn_of_one(
    data: dict[str, Any], response: Any, score: float | None
) -> None:
    collecting = Collecting(LATER)
    found = of_step(collecting, **data)
    if response is None:
        assert [one.code for one in collecting.refused] == ["non_finite"]
        return
    ((ce_type, body),) = found
    assert ce_type == "tunestream.turn.v1"
    read = json.loads(body)
    assert read["complete"] is False
    (one,) = read["candidates"]
    assert (one["response"], one.get("score")) == (response, score)


def test_a_step_without_score_is_refused_where_none_comes_later() -> None:
    collecting = Collecting(RUN)
    assert of_step(collecting, score=...) == []
    assert collecting.refused[0].code == "schema.missing"


def test_the_answer_at_the_end_of_a_steps_input_is_taken_off() -> None:
    asked = [{"role": "user", "content": "w?"}]
    ((_, body),) = of_step(Collecting(RUN), input=[*asked, {"role": "assistant", "content": "a"}])
    assert json.loads(body)["prompt"] == asked


@pytest.mark.parametrize("number", [2, 3])
def test_a_candidate_whose_response_calls_tools_is_kept_as_a_turn_of_one(number: int) -> None:
    names = {"run_id": "r", "example_id": "e", "turn_id": "t", "prompt": "p"}
    value = json.dumps(names | member("a", response=CALLING) | {"expected_candidates": 2}).encode()
    collecting = Collecting(RUN, number=number)
    found = collecting.take("tunestream.ttc.candidate.v1", value)
    if number == 2:
        assert not found
        assert collecting.refused[0].code == "newer_type"
        return
    ((ce_type, body),) = found
    assert ce_type == "tunestream.turn.v1"
    assert json.loads(body)["expected_candidates"] == 2
