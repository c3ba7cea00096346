"""Lines of recorded events become records, or name the field that is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunestream.events.cloudevents import Envelope
from tunestream.events.messages import OpenAIMessage
from tunestream.events.scores import TTCScore
from tunestream.events.ttc import TTCCandidate
from tunestream.events.turns import TTCTurn
from tunestream.sdk.event_files import LineError, RecordedFormat, likely_format, line_reader
from tunestream.sdk.pieces import TurnsGo
from tunestream.streams.publish import EncodedRecord

FIELDS = {"run_id": "r", "example_id": "e", "turn_id": "t", "candidate_id": "c", "prompt": "p", "score": 1}


def native(**changes: Any) -> str:
    return json.dumps(FIELDS | {"response": "o"} | changes)


def nat(output: str, run: str = "r") -> str:
    data = {"input": "p", "output": output, "turn_id": "t", "score": 1.0}
    step = {"payload": {"event_type": "TTC_END", "name": "move", "UUID": "u", "data": data}}
    return json.dumps({"example_id": "e", "step": step})


def read(line: str, form: RecordedFormat = RecordedFormat.NATIVE) -> bytes:
    (record,) = line_reader(form, run_id="r", source="/test")(line.encode(), 0)
    assert record.value is not None
    return record.value


def test_messages_are_read_before_they_are_published() -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "w?"}], "id": 1}]
    event = TTCCandidate.model_validate_json(read(native(prompt=parts)))
    assert event.prompt == [OpenAIMessage(role="user", content="w?")]


def test_so_are_responses() -> None:
    response = {"role": "assistant", "content": "sunny"}
    assert TTCCandidate.model_validate_json(read(native(response=response))).response == "sunny"


TURN = {"run_id": "r", "example_id": "e", "turn_id": "t", "prompt": "p"}
PARTS = [{"type": "text", "text": "sun"}, {"type": "text", "text": "ny"}]
CALL = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}


def turn(*responses: Any, **changes: Any) -> str:
    candidates = [{"candidate_id": str(at), "response": one} for at, one in enumerate(responses)]
    return json.dumps(TURN | {"candidates": candidates} | changes)


def test_a_turn_is_a_line() -> None:
    prompt = [{"role": "user", "content": PARTS, "id": 1}]
    line = turn("a", {"role": "assistant", "content": PARTS}, CALL, prompt=prompt, complete=False)
    event = TTCTurn.model_validate_json(read(line))
    assert event.prompt == [OpenAIMessage(role="user", content="sunny")]
    assert [one.response for one in event.candidates[:2]] == ["a", "sunny"]
    assert event.candidates[2].response == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    assert not event.complete


SCORE: dict[str, Any] = {
    "run_id": "r",
    "example_id": "e",
    "turn_id": "t",
    "candidate_id": "c",
    "source": "ann",
    "score": 1,
}


def test_a_score_is_a_line_that_goes_to_every_partition() -> None:
    (record,) = line_reader(RecordedFormat.NATIVE, run_id="r", source="/test")(json.dumps(SCORE).encode(), 0)
    assert TTCScore.model_validate_json(record.value or b"") == TTCScore(**SCORE)
    assert record.everywhere
    assert Envelope.from_headers(record.headers).extensions == {"tseverywhere": "1"}


@pytest.mark.parametrize(
    ("example", "stamped", "said"),
    [
        ("", 1.0, "example_id: "),
        (None, 1.0, "example_id: "),
        (True, 1.0, "example_id: "),
        ("e", -1.0, "step.payload.event_timestamp: -1.0 is no time"),
        ("e", 1e300, "step.payload.event_timestamp: 1e\\+300 is no time"),
        ("e", float("nan"), "step.payload.event_timestamp: "),
    ],
)
def test_a_step_without_a_usable_name_or_time_is_refused_by_field(
    example: object, stamped: float, said: str
) -> None:
    line = json.loads(nat("o")) | {"example_id": example}
    line["step"]["payload"]["event_timestamp"] = stamped
    with pytest.raises(LineError, match=f"^{said}"):
        read(json.dumps(line), RecordedFormat.NAT)


@pytest.mark.parametrize(
    ("line", "form"),
    [
        (native(), RecordedFormat.NATIVE),
        ('{"example_id": "e"}', RecordedFormat.NATIVE),
        (nat("o"), RecordedFormat.NAT),
        (json.dumps(json.loads(nat("o"))["step"]), RecordedFormat.NAT),
        (turn("a"), RecordedFormat.NATIVE),
        ("{}", None),
        ("[1]", None),
        ("no JSON", None),
    ],
)
def test_a_line_is_known_by_its_keys(line: str, form: RecordedFormat | None) -> None:
    assert likely_format(line.encode()) == form


DEEP = '{"a": ' * 150 + "1" + "}" * 150


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (native(response="x\ud83d"), r"response: not text: lone surrogate \\ud83d"),
        (
            native(prompt=[{"role": "user", "content": "\udcff"}]),
            r"prompt.0.content: not text",
        ),
        (native(example_id="\ud800"), "example_id: not text"),
        (native(metadata={"a": ["\ud800"]}), "metadata.a.0: not text"),
        (native(prompt=[{"role": "user", "content": [{"type": "image_url"}]}]), "prompt.0.content.0.type"),
        (native(prompt=None), "^prompt: send text, or a list of messages"),
        (native(response=None), "^response: send text, or one assistant message"),
        (native(response={"role": "user", "content": "a"}), "response.role: is 'user'"),
        (native(score="NaN"), "score: Input should be a finite number"),
        (native().replace("}", ', "score": 2}'), "score: is there twice"),
        (native(metadata=None).replace("null", DEEP), "is nested deeper than 100 levels"),
        (
            native(metadata=None).replace("null", "[" * 10**5 + "]" * 10**5),
            "is nested deeper than 100 levels",
        ),
        (native(**{"": 1}), r"\(a column without a name\): Extra inputs"),
        (native(response=CALL), "response.tool_calls: cannot be part of a response here"),
        (turn(), "candidates: List should have at least 1 item"),
        (turn("a", None), "candidates.1.response: send text, or one assistant message"),
        (turn("a", {"role": "user", "content": "b"}), "candidates.1.response.role: is 'user'"),
        (turn("a", prompt=[{"role": "user", "content": [{"type": "image_url"}]}]), "prompt.0.content.0.type"),
        (turn("a", "x\ud83d"), r"candidates.1.response: not text: lone surrogate \\ud83d"),
        (turn("a", tools=[]), "tools: List should have at least 1 item"),
        (turn("a", expected=2), "expected: Extra inputs are not permitted"),
        (json.dumps(SCORE | {"score": None}), "score: Input should be a valid number"),
        (json.dumps(SCORE | {"source": ""}), "source: String should have at least 1 character"),
        (json.dumps(SCORE | {"scored": 1}), "scored: Extra inputs are not permitted"),
        ("[1]", "is not a JSON object"),
        ("{", "is not JSON"),
    ],
)
def test_a_native_line_that_cannot_be_published_names_the_field(line: str, said: str) -> None:
    with pytest.raises(LineError, match=said):
        read(line)


@pytest.mark.parametrize("score", ["NaN", "Infinity", "1e999"])
def test_a_step_whose_score_no_one_can_use_is_refused(score: str) -> None:
    with pytest.raises(LineError, match=r"step: payload.data.score: "):
        read(nat("o").replace('"score": 1.0', f'"score": {score}'), RecordedFormat.NAT)


def test_a_step_that_cannot_be_published_names_the_field() -> None:
    read(nat("🙂"), RecordedFormat.NAT)
    with pytest.raises(LineError, match=r"step.payload.data.output: not text: lone surrogate \\ud83d"):
        read(nat("good \ud83d"), RecordedFormat.NAT)


WHOLE_TURN: dict[str, Any] = {
    "run_id": "r",
    "example_id": "e",
    "turn_id": "t",
    "prompt": "p",
    "candidates": [{"candidate_id": name, "response": name, "score": 1} for name in "ab"],
}


def read_before_turns(line: dict[str, Any]) -> list[EncodedRecord]:
    reader = line_reader(RecordedFormat.NATIVE, run_id="r", source="/test", turns=TurnsGo(False, 2))
    return reader(json.dumps(line).encode(), 0)


@pytest.mark.parametrize("complete", [True, False])
def test_to_a_deployment_without_turns_a_turn_goes_in_pieces(complete: bool) -> None:
    records = read_before_turns(WHOLE_TURN | {"complete": complete})
    kinds = [Envelope.from_headers(record.headers).type.split(".")[2] for record in records]
    assert kinds == ["candidate", "candidate", "turn_end"][: 2 + complete]
    first = TTCCandidate.model_validate_json(records[0].value or b"")
    assert first == TTCCandidate(
        run_id="r", example_id="e", turn_id="t", prompt="p", candidate_id="a", response="a", score=1
    )


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (WHOLE_TURN | {"tools": [{"type": "function"}]}, "tools"),
        (
            WHOLE_TURN | {"candidates": [{"candidate_id": "c", "response": ""}]},
            "candidates.0.score",
        ),
        (SCORE, "score"),
    ],
)
def test_what_its_pieces_cannot_hold_is_refused_with_the_remedy(line: dict[str, Any], field: str) -> None:
    with pytest.raises(
        LineError, match=f"^{field}: this deployment writes format 2.*tunestream upgrade finish"
    ):
        read_before_turns(line)
