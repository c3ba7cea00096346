"""Lines of recorded events become records, or name the field that is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunestream.events.trajectories import OpenAIMessage
from tunestream.events.ttc import TTCCandidate
from tunestream.sdk.event_files import LineError, RecordedFormat, line_reader

FIELDS = {"run_id": "r", "example_id": "e", "turn_id": "t", "candidate_id": "c", "prompt": "p", "score": 1}


def native(**changes: Any) -> str:
    return json.dumps(FIELDS | {"response": "o"} | changes)


def nat(output: str, run: str = "r") -> str:
    data = {"input": "p", "output": output, "turn_id": "t", "score": 1.0}
    step = {"payload": {"event_type": "TTC_END", "name": "move", "UUID": "u", "data": data}}
    return json.dumps({"example_id": "e", "step": step})


def read(line: str, form: RecordedFormat = RecordedFormat.NATIVE) -> bytes:
    record = line_reader(form, run_id="r", source="/test")(line.encode(), 0)
    assert record.value is not None
    return record.value


def test_messages_are_read_before_they_are_published() -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "w?"}], "id": 1}]
    event = TTCCandidate.model_validate_json(read(native(prompt=parts)))
    assert event.prompt == [OpenAIMessage(role="user", content="w?")]


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
        (native(score="NaN"), "score: Input should be a finite number"),
        (native().replace("}", ', "score": 2}'), "score: is there twice"),
        (native(metadata=None).replace("null", DEEP), "is nested deeper than 100 levels"),
        (
            native(metadata=None).replace("null", "[" * 10**5 + "]" * 10**5),
            "is nested deeper than 100 levels",
        ),
        ("[1]", "is not a JSON object"),
        ("{", "is not JSON"),
    ],
)
def test_a_native_line_that_cannot_be_published_names_the_field(line: str, said: str) -> None:
    with pytest.raises(LineError, match=said):
        read(line)


def test_a_step_that_cannot_be_published_names_the_field() -> None:
    read(nat("🙂"), RecordedFormat.NAT)
    with pytest.raises(LineError, match=r"step.payload.data.output: not text: lone surrogate \\ud83d"):
        read(nat("good \ud83d"), RecordedFormat.NAT)
