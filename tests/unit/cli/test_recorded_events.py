"""``tunestream pairs`` of events in the native form: turns, single candidates, markers, steps among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tunestream.cli import app
from tunestream.domain.collector.normaliser import normalise_native
from tunestream.events.ttc import TTCCandidate

NAMES = {"run_id": "r", "example_id": "e", "turn_id": "t"}
TOOLS = [{"type": "function", "function": {"name": "f"}}]


@pytest.fixture
def pairs(tmp_path: Path) -> Any:
    config = tmp_path / "run.yaml"
    config.write_text("trajectory_builder: {ttc_step_name: move}\n")

    def run(*events: dict[str, Any], flags: tuple[str, ...] = ()) -> Result:
        text = "".join(json.dumps(event) + "\n" for event in events)
        return CliRunner().invoke(app, ["pairs", "-c", str(config), *flags, "-"], input=text)

    return run


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def answer(name: str, score: float | None, **more: Any) -> dict[str, Any]:
    return {"candidate_id": name, "response": name, "score": score, **more}


def turn(*candidates: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**NAMES, "prompt": "p", "candidates": list(candidates), **more}


def single(name: str, score: float, **more: Any) -> dict[str, Any]:
    return {**NAMES, "prompt": "p", **answer(name, score), **more}


def step(name: str, score: float) -> dict[str, Any]:
    data = {"input": "p", "output": name, "turn_id": "t", "score": score}
    payload = {"event_type": "TTC_END", "name": "move", "UUID": name, "data": data}
    return {"example_id": "e", "step": {"payload": payload}}


GOOD, BAD = answer("good", 0.9), answer("bad", 0.1)


@pytest.mark.parametrize("flags", [(), ("--nat-parity",)])
@pytest.mark.parametrize(
    "events",
    [
        [turn(GOOD, BAD)],
        [turn(GOOD, complete=False), turn(BAD, complete=False)],
        [turn(GOOD, complete=False), single("bad", 0.1), NAMES],
        [single("good", 0.9), step("bad", 0.1)],
        [step("good", 0.9), turn(BAD)],
    ],
    ids=["turn", "parts of a turn", "part and single", "single and step", "step and turn"],
)
def test_every_form_gives_the_same_pair(pairs: Any, events: list[Any], flags: tuple[str, ...]) -> None:
    (row,) = rows(pairs(*events, flags=flags))
    assert (row["prompt"], row["chosen_response"], row["rejected_response"]) == ("p", "good", "bad")
    assert list(row)[-1] == "reward"


def test_what_the_collector_made_of_it_gives_the_same_pair(pairs: Any) -> None:
    validated = [
        json.loads(normalise_native(TTCCandidate.model_validate(event)).to_json())
        for event in (single("good", 0.9), single("bad", 0.1))
    ]
    members = [{**answer("good", 0.9), "raw_metadata": {}}, {**answer("bad", 0.1), "raw_metadata": {}}]
    expected = rows(pairs(turn(GOOD, BAD)))
    assert rows(pairs(*validated)) == expected
    assert rows(pairs(turn(*members, complete=True))) == expected


def test_markers_end_turns_and_examples_and_repeats_count_once(pairs: Any) -> None:
    late = single("later", 0.5)
    result = pairs(turn(GOOD, BAD), turn(GOOD, BAD), late)
    assert len(rows(result)) == 1
    assert "line 3: late: turn 't' was closed" in result.stderr
    result = pairs(single("good", 0.9), {"run_id": "r", "example_id": "e"}, single("bad", 0.1))
    assert rows(result) == []
    assert "line 3: late" in result.stderr


@pytest.mark.parametrize("flags", [(), ("--nat-parity",)])
def test_tools_and_tokens_stand_in_the_rows(pairs: Any, flags: tuple[str, ...]) -> None:
    event = turn(GOOD | {"token_ids": [3]}, BAD, tools=TOOLS, prompt_token_ids=[1, 2])
    (row,) = rows(pairs(event, flags=flags))
    assert (row["tools"], row["prompt_token_ids"], row["chosen_token_ids"]) == (TOOLS, [1, 2], [3])
    assert not row.keys() & {"rejected_token_ids", "chosen_message", "rejected_message"}
    (row,) = rows(pairs(event, flags=(*flags, "--format", "trl")))
    assert row == {
        "prompt": [{"role": "user", "content": "p"}],
        "chosen": [{"role": "assistant", "content": "good"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
        "tools": TOOLS,
    }


CALLS = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}


@pytest.mark.parametrize("form", ["turn", "steps"])
def test_an_answer_that_is_more_than_text_stands_whole_in_the_rows(pairs: Any, form: str) -> None:
    events: list[Any] = [turn(GOOD | {"response": CALLS}, BAD)]
    if form == "steps":
        events = [step("good", 0.9), step("bad", 0.1)]
        events[0]["step"]["payload"]["data"]["output"] = CALLS
    message = CALLS | {"content": ""}
    (row,) = rows(pairs(*events))
    assert (row["chosen_response"], row["chosen_message"]) == ("", message)
    assert row["rejected_response"] == "bad"
    assert "rejected_message" not in row
    (row,) = rows(pairs(*events, flags=("--format", "trl")))
    assert row == {
        "prompt": [{"role": "user", "content": "p"}],
        "chosen": [message],
        "rejected": [{"role": "assistant", "content": "bad"}],
    }


def test_a_fault_of_a_candidate_leaves_that_one_out(pairs: Any) -> None:
    result = pairs(turn(GOOD, answer("none", None), answer("far", 1e200), BAD))
    assert len(rows(result)) == 1
    told = " ".join(result.stderr.split())
    assert "line 1: schema.missing: left out of 4 candidates: 1-2; candidates.1: score is missing" in told
    assert "candidates.2: score is 1e+200" in told


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (turn(GOOD, BAD, more=1), "schema.unknown_field: not a valid TTCTurn: field more"),
        ({**turn(GOOD), "candidates": []}, "schema.bounds: not a valid TTCTurn: field candidates"),
        ({**single("x", 1.0), "prompt": 3}, "not a valid TTCCandidate: field prompt"),
        ({"run_id": "r", "example_id": "e", "items": []}, "not a valid TTCEpisode"),
    ],
)
def test_what_is_no_event_is_refused_by_field(pairs: Any, event: dict[str, Any], reason: str) -> None:
    result = pairs(turn(GOOD, BAD), {**event, "turn_id": "2"} if "turn_id" in event else event)
    assert len(rows(result)) == 1
    assert reason in " ".join(result.stderr.split())


def test_a_file_is_of_one_run(pairs: Any) -> None:
    result = pairs(turn(GOOD, BAD), {**turn(GOOD, BAD), "run_id": "other"})
    assert result.exit_code == 1
    assert "line 2: run_id is 'other', after 'r'; make pairs of one run at a time" in result.stderr
