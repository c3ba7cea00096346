"""What is read of a line at once is what those read who know every form; the rest is left to them."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tunestream.domain.turns.recorded_lines import RecordedLines
from tunestream.domain.turns.recorded_members import Found
from tunestream.domain.turns.recorded_plain import PlainLines

TEXTS = st.text(max_size=5) | st.sampled_from(["", "\\", '"', "\x00", "\x7f", "\u2028", "é😀", "a/b"])
NUMBERS = st.floats() | st.integers() | st.sampled_from([1 << 70, -0.0, 1e151, 1e308])
ODD: st.SearchStrategy[Any] = st.none() | st.booleans() | NUMBERS | TEXTS | st.just([]) | st.just({})
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", ""]), "content": TEXTS | ODD},
    optional={"name": ODD, "audio": ODD, "tool_calls": ODD, "more": ODD},
)
PLAIN_MESSAGES = st.fixed_dictionaries({"content": TEXTS, "role": st.sampled_from(["user", "assistant"])})
DEEP: Any = None
for _ in range(101):
    DEEP = [DEEP]
METADATA = st.dictionaries(TEXTS, ODD | st.lists(NUMBERS, max_size=2), max_size=2) | st.just({"deep": DEEP})
DATA = st.fixed_dictionaries(
    {},
    optional={
        "input": TEXTS | st.lists(PLAIN_MESSAGES, max_size=2) | st.lists(MESSAGES, max_size=2) | ODD,
        "output": TEXTS | PLAIN_MESSAGES | ODD,
        "turn_id": TEXTS | ODD,
        "candidate_index": st.integers() | ODD,
        "score": NUMBERS | ODD,
        "more": ODD,
    },
)
PAYLOADS = st.fixed_dictionaries(
    {"event_type": st.sampled_from(["TTC_END", "TTC_END", "WORKFLOW_END", "LLM_END"]) | ODD},
    optional={
        "name": st.just("move") | ODD,
        "UUID": TEXTS | ODD,
        "event_timestamp": NUMBERS | ODD,
        "metadata": METADATA | ODD,
        "data": DATA | ODD,
    },
)
PLAIN = {
    "event_type": "TTC_END",
    "name": "move",
    "UUID": "u",
    "metadata": {"k": 1},
    "data": {"input": "p", "output": "r", "turn_id": "t", "candidate_index": 1, "score": 1.0},
}
# One field of a plain candidate is another, so that many lines are plain and all others nearly are.
CHANGED = st.tuples(PAYLOADS, DATA, st.sampled_from([*PLAIN, "data."])).map(
    lambda drawn: (
        {**PLAIN, "data": {**PLAIN["data"], **drawn[1]}}  # type: ignore[dict-item]
        if drawn[2] == "data."
        else {**PLAIN, **{name: value for name, value in drawn[0].items() if name == drawn[2]}}
    )
)
EXAMPLES = TEXTS | st.just("e" * 513) | ODD


def line(example: object, payload: object, *, spaced: bool = True, ascii_only: bool = True) -> bytes:
    document = {"example_id": example, "step": {"payload": payload, "parent_id": "é"}}
    return written(document, spaced=spaced, ascii_only=ascii_only)


def written(document: object, *, spaced: bool = True, ascii_only: bool = True) -> bytes:
    separators = (", ", ": ") if spaced else (",", ":")
    return json.dumps(document, separators=separators, ensure_ascii=ascii_only).encode(
        "utf-8", "surrogatepass"
    )


def at_length(raw: bytes, *, parity: bool) -> Found:
    """Read a line as if it were of an unusual form."""
    reader = RecordedLines("move", Counter(), parity=parity)
    reader._read_plain = lambda _number, _raw: None  # type: ignore[assignment,method-assign]
    (found,) = reader(1, raw)
    return found


@given(EXAMPLES, PAYLOADS | CHANGED, st.booleans(), st.booleans())
def test_what_is_read_at_once_is_what_is_read_at_length(
    example: object, payload: dict[str, Any], spaced: bool, ascii_only: bool
) -> None:
    raw = line(example, payload, spaced=spaced, ascii_only=ascii_only)
    for parity in (False, True):
        found = PlainLines("move", parity=parity).step(raw)
        if found is None:
            continue  # those who know every form decide
        expected = at_length(raw, parity=parity)
        if found.members and parity:  # there repeats are not known
            (member,) = found.members
            assert found._replace(members=(replace(member, candidate_id=""),)) == expected
        else:
            assert found == expected


CANDIDATES = st.fixed_dictionaries(
    {},
    optional={
        "candidate_id": TEXTS | ODD,
        "response": TEXTS | PLAIN_MESSAGES | ODD,
        "score": NUMBERS | ODD,
        "candidate_index": st.integers() | ODD,
        "metadata": METADATA | ODD,
        "policy_version": TEXTS | ODD,
        "more": ODD,
    },
).map(lambda changed: {"candidate_id": "c", "response": "r", "score": 1.0} | changed)
TURN = {"run_id": "r", "example_id": "e", "turn_id": "t", "prompt": "p"}
FIELDS = {
    "example_id": EXAMPLES,
    "turn_id": TEXTS | ODD,
    "prompt": TEXTS | st.lists(PLAIN_MESSAGES, max_size=2) | ODD,
    "complete": st.booleans() | ODD,
    "expected_candidates": ODD | st.just(2),
    "tools": ODD,
    "policy_version": TEXTS | ODD,
}
TURNS = st.one_of(
    *(
        st.tuples(values, st.lists(CANDIDATES, max_size=2)).map(
            lambda drawn, name=name: TURN | {name: drawn[0], "candidates": drawn[1]}  # type: ignore[misc]
        )
        for name, values in FIELDS.items()
    )
)


@given(TURNS, st.booleans(), st.booleans())
def test_a_turn_that_is_read_at_once_is_what_is_read_at_length(
    turn: dict[str, Any], spaced: bool, ascii_only: bool
) -> None:
    raw = written(turn, spaced=spaced, ascii_only=ascii_only)
    for parity in (False, True):
        found = PlainLines("move", parity=parity).turn(raw)
        if found is not None:
            assert found == ("r", at_length(raw, parity=parity))


@pytest.mark.parametrize("response", ["answer", "\\\\ \n é"])
def test_a_prompt_that_ends_in_the_answer_is_left_to_others_except_in_parity(response: str) -> None:
    prompt = [{"role": "user", "content": "q"}, {"role": "assistant", "content": response}]
    payload = {**PLAIN, "data": {**PLAIN["data"], "input": prompt, "output": response}}  # type: ignore[dict-item]
    candidate = {"candidate_id": "c", "response": response, "score": 1}
    turn = written({**TURN, "prompt": prompt, "candidates": [candidate]})
    step = line("e", payload)
    assert PlainLines("move").step(step) is None
    assert PlainLines("move").turn(turn) is None
    for raw in (step, turn):
        (member,) = at_length(raw, parity=False).members
        assert json.loads(member.prompt) == prompt[:1]
    for found in (PlainLines("move", parity=True).step(step), at_length(turn, parity=True)):
        assert found is not None
        assert json.loads(found.members[0].prompt) == prompt


def test_a_usual_turn_is_read_at_once() -> None:
    candidate = {"candidate_id": "c", "response": "\n\\u00e9 é", "score": 1, "metadata": {"k": 1}}
    turn = {"run_id": "r", "example_id": "e", "turn_id": "t", "prompt": "p", "candidates": [candidate]}
    found = PlainLines("move").turn(written(turn))
    assert found is not None
    (member,) = found[1].members
    assert json.loads(member.response) == candidate["response"]


@pytest.mark.parametrize("spaced", [True, False])
@pytest.mark.parametrize("prompt", ['p\n"é', [{"role": "user", "content": "\\é"}]])
def test_the_usual_line_is_read_at_once(prompt: object, spaced: bool) -> None:
    payload = {**PLAIN, "data": {**PLAIN["data"], "input": prompt}}  # type: ignore[dict-item]
    found = PlainLines("move").step(line("e", payload, spaced=spaced))
    assert found is not None
    (member,) = found.members
    assert json.loads(member.prompt) == prompt


@pytest.mark.parametrize(
    "changed",
    [
        b'"response":"r","score":1e151',
        b'"response":"\xff","score":1',
        b'"response":"\\ud800","score":1',
        b'"response":"r","score":1,"metadata":{"k":1e400}',
        b'"response":"r","score":1,"metadata":{"k":%b}' % (b"[" * 101 + b"]" * 101),
        b'"response":"","score":1',
        b'"response":"r","score":null',
    ],
)
def test_what_has_to_be_looked_at_closer_is_left_to_others(changed: bytes) -> None:
    ids = b'"run_id":"r","example_id":"e","turn_id":"t","prompt":"p"'
    turn = b'{%b,"candidates":[{"candidate_id":"c",%b}]}'
    assert PlainLines("move").turn(turn % (ids, b'"response":"r","score":1')) is not None
    assert PlainLines("move").turn(turn % (ids, changed)) is None
    data = changed.replace(b"response", b"output")
    data, _, metadata = data.partition(b',"metadata":')
    step = (
        b'{"example_id":"e","step":{"payload":{"event_type":"TTC_END","name":"move","UUID":"u","metadata":%b,'
        b'"data":{"turn_id":"t","input":"p",%b}}}}'
    )
    assert PlainLines("move").step(step % (b"null", b'"output":"r","score":1')) is not None
    assert PlainLines("move").step(step % (metadata or b"null", data)) is None
