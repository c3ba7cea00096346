"""What views of candidates and turns accept, their models accept with the same values."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunestream.events.base import Wire
from tunestream.events.ttc import CandidateStep
from tunestream.events.turns import TurnStep
from tunestream.events.views.base import View
from tunestream.events.views.candidates import SingleView, TurnView

# JSON as anybody may write it, a value a line: right and wrong, numbers and texts of every spelling.
TEXTS = [
    r"",
    r'""',
    r'"a"',
    r'"é"',
    r'"\u00e9"',
    r'"\ud83d\ude00"',
    r'"\ud800"',
    r'"\u0000"',
    r'"\/"',
    r'"\n"',
    r'"\\u0041"',
    r'"a	b"',
    r'"\x"',
    r'"😀"',
    r"",
]
NUMBERS = [
    "0",
    "1",
    "-0",
    "-0.0",
    "1.0",
    "0.1",
    "1e2",
    "1E+2",
    "1e400",
    "-1e400",
    "1e-400",
    "01",
    "1.",
    ".5",
    "+1",
    "NaN",
    "Infinity",
    "-Infinity",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "0.1000000000000000055511151231257827",
    "5e-324",
]
OBJECTS = [
    r"",
    r'{"a":1}',
    r'{"a": 1}',
    r'{"a":1,"a":2}',
    r'{"a":NaN}',
    r'{"a":1e400}',
    r'{"a":99999999999999999999}',
    r'{"a":1.50}',
    r'{"a":{"b":[1,"c"]}}',
    r'{"a":"\ud800"}',
    r"{1:2}",
    r'{"a":1,}',
    r'{"a":"b	c"}',
    r'{"":[]}',
    r'{"a":01}',
    r'{"a":tru}',
    r'{"a"}',
    r"",
]
CALL = (
    '{"role":"assistant","content":"","tool_calls":[{"type":"function",'
    '"function":{"name":"f","arguments":%s}}]}'
)
MESSAGES = [
    *"""
{"role":"user","content":"a"}
{"content":"a","role":"user"}
{"role":"user","content":"a","x":1}
{"role":"user","content":null}
{"role":"user"}
{"role":"user","content":"a","name":null}
{"role":"user","content":"a","name":"n"}
{"role":"a","role":"b","content":"a"}
{"role":"assistant","content":"","tool_calls":[]}
{"role":"assistant","content":"","tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}}]}
{"role":"assistant","content":"","tool_calls":[{"type":"tool","function":{"name":"f","arguments":"{}"}}]}
{"role":"assistant","content":"","reasoning_content":"r"}
""".strip().split("\n"),
    *(CALL % arguments for arguments in ['"{}"', *OBJECTS]),
]
LISTS = [
    "[]",
    "[1]",
    "[",
    "1]",
    "[1,2]",
    "[-1]",
    "[1.0]",
    "[true]",
    '["1"]',
    "[99999999999999999999]",
    "[1e2]",
    "[0]",
    "[{}]",
    '[{"type":"function"}]',
    '[{"a":1e400}]',
    '[{"a":1,"a":2}]',
]
LARGE = ["1" * 400, "1" * 5000, f'"{"x" * 513}"', "[" * 300 + "]" * 300]
DEEP = ['{"a":' * levels + "1" + "}" * levels for levels in (80, 120, 250)]
EVERYTHING = [
    *("null", "true", "false", "nul", "{}"),
    *(TEXTS + NUMBERS + OBJECTS + MESSAGES + LISTS + LARGE + DEEP),
    *(f"[{message}]" for message in MESSAGES),
]

# As the models write them: in the order of their fields.
CANDIDATE = {
    "run_id": '"r"',
    "example_id": '"e"',
    "turn_id": '"t"',
    "candidate_id": '"a"',
    "candidate_index": "1",
    "prompt": '"p"',
    "response": '"r"',
    "score": "0.25",
    "expected_candidates": "2",
    "policy_version": '"v1"',
    "raw_metadata": "{}",
}
MEMBER = {
    "candidate_id": '"a"',
    "candidate_index": "1",
    "response": '"r"',
    "score": "0.25",
    "policy_version": '"v1"',
    "token_ids": "[0]",
    "raw_metadata": "{}",
}
TURN = {
    "run_id": '"r"',
    "example_id": '"e"',
    "turn_id": '"t"',
    "prompt": '[{"role":"user","content":"a"}]',
    "tools": '[{"type":"function"}]',
    "prompt_token_ids": "[1,2]",
    "candidates": "[]",
    "complete": "true",
    "expected_candidates": "2",
}
ODD = st.sampled_from(EVERYTHING)


def text_of(values: dict[str, str]) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in values.items()) + "}"


def candidate_of(changed: dict[str, str]) -> bytes:
    return text_of(CANDIDATE | changed).encode("utf-8", "surrogatepass")


def turn_of(changed: dict[str, str], *members: dict[str, str]) -> bytes:
    candidates = ",".join(text_of(MEMBER | one) for one in members or ({},))
    return text_of(TURN | {"candidates": f"[{candidates}]"} | changed).encode("utf-8", "surrogatepass")


def check(view: type[View], model: type[Wire], body: bytes) -> bool:
    """Return whether the view accepted the body, as its model does."""
    read = view.read(body)
    if read is None:
        return False
    assert read == view.of(model.model_validate_json(body, extra="ignore")), body
    return True


def test_the_views_accept_the_usual_bodies() -> None:
    assert check(SingleView, CandidateStep, candidate_of({}))
    assert check(TurnView, TurnStep, turn_of({}, {}, {"response": MESSAGES[0]}))


@pytest.mark.parametrize("name", [*CANDIDATE, "new"])
def test_of_any_value_of_a_candidate_s_field_view_and_model_think_the_same(name: str) -> None:
    for value in EVERYTHING:
        check(SingleView, CandidateStep, candidate_of({name: value}))
        check(SingleView, CandidateStep, candidate_of({name: f" {value}"}))
        check(SingleView, CandidateStep, candidate_of({f'{name}":{value},"{name}': CANDIDATE.get(name, "1")}))
    check(SingleView, CandidateStep, text_of({k: v for k, v in CANDIDATE.items() if k != name}).encode())


@pytest.mark.parametrize("name", [*TURN, "new"])
def test_of_any_value_of_a_turn_s_field_view_and_model_think_the_same(name: str) -> None:
    for value in EVERYTHING:
        check(TurnView, TurnStep, turn_of({name: value}))
        check(TurnView, TurnStep, turn_of({f'{name}":{value},"{name}': TURN.get(name, "1")}))


@pytest.mark.parametrize("name", [*MEMBER, "new"])
def test_of_any_value_of_a_member_s_field_view_and_model_think_the_same(name: str) -> None:
    for value in EVERYTHING:
        check(TurnView, TurnStep, turn_of({}, {}, {name: value}))


@given(st.dictionaries(st.sampled_from([*CANDIDATE]), ODD, max_size=3), st.randoms())
def test_whatever_the_view_of_a_candidate_accepts_its_model_accepts(
    changed: dict[str, str], rng: Random
) -> None:
    fields = list((CANDIDATE | changed).items())
    rng.shuffle(fields)
    check(SingleView, CandidateStep, text_of(dict(fields)).encode("utf-8", "surrogatepass"))


@given(
    st.dictionaries(st.sampled_from([*TURN]), ODD, max_size=1),
    st.lists(st.dictionaries(st.sampled_from([*MEMBER]), ODD, max_size=1), min_size=1, max_size=3),
)
def test_whatever_the_view_of_a_turn_accepts_its_model_accepts(
    changed: dict[str, str], members: list[dict[str, str]]
) -> None:
    check(TurnView, TurnStep, turn_of(changed, *members))


@given(st.binary(min_size=1, max_size=3), st.integers(0, 500), st.booleans())
def test_bytes_that_are_damaged_are_accepted_by_neither_or_both(damage: bytes, at: int, single: bool) -> None:
    body = candidate_of({"response": '"é"'}) if single else turn_of({}, {"raw_metadata": '{"a":"é"}'})
    at %= len(body)
    damaged = body[:at] + damage + body[at + len(damage) :]
    if single:
        check(SingleView, CandidateStep, damaged)
    else:
        check(TurnView, TurnStep, damaged)


@pytest.mark.parametrize("extra", ['"name":"n"', '"tool_call_id":"1"', '"reasoning_content":"r"'])
def test_where_unknown_fields_are_left_out_a_message_keeps_what_it_has(extra: str) -> None:
    body = turn_of({"prompt": '[{"role":"user","content":"a",' + extra + "}]"})
    assert extra.encode() in TurnStep.of_service(body).to_json()
