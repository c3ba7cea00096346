"""What the collector writes from slices is what it makes of the models, byte for byte, refusals included."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.collecting import Collecting
from tests.unit.domain.gate.test_core import configuration

RUN = configuration()
LATER = RUN.model_copy(update={"scores": "later"})
NAMES = {"run_id": "r", "example_id": "e", "turn_id": "t"}
CANDIDATE, TURN = "tunestream.ttc.candidate.v1", "tunestream.ttc.turn.v1"

texts = st.sampled_from(["a", "b", "", "é\u4e2d😀", 'q"\\/\n\t\x00\x7f\u2028', "<&>"]) | st.text(max_size=4)
numbers = st.integers(-5, 5) | st.sampled_from(
    [1e16, -0.0, 1.5, 2**63, 2**70, -(2**64), 1e200, 1e-7, float("nan")]
)
shapes = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=5,
)
calls = st.fixed_dictionaries(
    {
        "function": st.fixed_dictionaries(
            {"name": texts, "arguments": texts | st.dictionaries(texts, shapes, max_size=2)}
        )
    },
    optional={"id": texts, "type": st.just("function"), "index": st.just(0)},
)


def mostly(usual: st.SearchStrategy[Any], other: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 19).flatmap(lambda drawn: usual if drawn else other)


parts = st.fixed_dictionaries({"type": mostly(st.just("text"), st.just("image")), "text": texts})
plain = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant"]), "content": st.sampled_from(["a", "b", "é"])}
)
messages = plain | st.fixed_dictionaries(
    {
        "role": mostly(st.sampled_from(["user", "assistant", "tool"]), st.just("")),
        "content": mostly(texts | st.lists(parts, max_size=2), st.none()),
    },
    optional={
        "tool_calls": st.lists(calls, max_size=2),
        "reasoning_content": texts | st.none(),
        "name": texts,
        "refusal": mostly(st.none(), texts),
        "extra": shapes,
    },
)
answers = messages.map(lambda message: message | {"role": "assistant"})
prompts = mostly(texts | st.lists(messages, max_size=3), shapes)
responses = mostly(texts | answers | st.lists(answers, min_size=1, max_size=1), messages | shapes)
scores = mostly(st.floats(-2, 2) | st.integers(-2, 2), numbers | st.none() | st.sampled_from(["1", True]))
tokens = mostly(st.none() | st.lists(st.integers(0, 3), min_size=1, max_size=2), shapes)
functions = st.fixed_dictionaries({"name": texts}, optional={"description": st.none() | texts})
definitions = st.fixed_dictionaries(
    {"function": functions},
    optional={"type": mostly(st.just("function") | st.none(), st.just("custom")), "strict": shapes},
)
tools = mostly(st.none() | st.lists(definitions, min_size=1, max_size=2), shapes)
metadata = st.dictionaries(texts, texts | st.integers() | st.floats(-2, 2), max_size=2)
common = {
    "candidate_index": mostly(st.integers(-1, 2) | st.none(), numbers),
    "policy_version": texts | st.none(),
    "metadata": mostly(st.none() | metadata, shapes | st.dictionaries(texts, shapes, max_size=3)),
}
counts = mostly(st.integers(1, 3) | st.none(), numbers)
names = mostly(st.sampled_from(["c", "d", "f", "g", "h", "i"]), texts)
candidates = st.fixed_dictionaries(
    {"candidate_id": names, "prompt": prompts, "response": responses, "score": scores},
    optional=common | {"expected_candidates": counts},
)
members = st.fixed_dictionaries(
    {"candidate_id": names, "response": responses, "score": scores},
    optional=common | {"token_ids": tokens},
)
turns = st.fixed_dictionaries(
    {"prompt": prompts, "candidates": st.lists(members, min_size=1, max_size=3)},
    optional={
        "tools": tools,
        "prompt_token_ids": tokens,
        "complete": mostly(st.booleans(), numbers),
        "expected_candidates": counts,
        "policy_version": texts | st.none(),
    },
)


def both_ways(run: Any, ce_type: str, value: bytes) -> tuple[list[tuple[str, bytes]], list[tuple[str, str]]]:
    """Return what is written and refused by either way, which are the same."""
    found = []
    for views in (True, False):
        collecting = Collecting(run, views=views)
        written = collecting.take(ce_type, value)
        ids = [one.id for one in collecting.effects.outbound]
        refused = [(one.code, one.message) for one in collecting.refused]
        found.append((written, refused, ids, collecting.effects.counts))
    assert found[0] == found[1]
    return found[0][0], found[0][1]


@settings(max_examples=300, deadline=None)
@given(event=candidates | turns, ascii_=st.booleans(), later=st.booleans(), spaced=st.booleans())
def test_both_ways_write_and_refuse_the_same(event: Any, ascii_: bool, later: bool, spaced: bool) -> None:
    separators = None if spaced else (",", ":")
    value = json.dumps(NAMES | event, ensure_ascii=ascii_, separators=separators).encode(
        errors="surrogatepass"
    )
    both_ways(LATER if later else RUN, TURN if "candidates" in event else CANDIDATE, value)


DEEP = "[" * 120 + "]" * 120
FAULTS = [
    '"response":"\\ud83d"',
    '"response":"\\ud83d\\ude00"',
    '"response":"\\u00e9\\/"',
    '"response":"x\\u0001"',
    '"response":"x\x01"',
    '"response":"a","response":"b"',
    '"response":[{"role":"assistant","content":"a","content":"b"}]',
    '"response":{"role":"assistant","content":"a","tool_calls":[{"function":{"name":"f","arguments":{"n":1e999}}}]}',
    '"metadata":{"n":1e999}',
    '"metadata":{"n":NaN}',
    '"metadata":{"n":-0,"m":1E5,"l":123456789012345678901234567890}',
    '"metadata":{"a":1,"a":2}',
    f'"metadata":{{"d":{DEEP}}}',
    f'"response":{DEEP}',
    f'"prompt":{DEEP}',
    '"prompt":[1]',
    '"prompt":[]',
    '"prompt":{}',
    '"prompt":[{"role":"user","content":"w"},{"role":"assistant","content":"a"}]',
    '"prompt":[{"role":"user","content":"w"},{"role":"assistant","content":"\\u0061","name":null}]',
    '"score":1e999',
    '"score":-1e151',
    '"score":123456789012345678901234567890',
    '"candidate_id":"\\u0063"',
    f'"candidate_id":"{"x" * 513}"',
    '"score":1.0 ',
    '"policy_version":1',
]


@pytest.mark.parametrize("fault", FAULTS, ids=range(len(FAULTS)))
@pytest.mark.parametrize("ce_type", [CANDIDATE, TURN])
def test_both_ways_agree_about_every_spelling(ce_type: str, fault: str) -> None:
    names = '"run_id":"r","example_id":"e","turn_id":"t"'
    member = '"candidate_id":"c","response":"a","score":0.5'
    if ce_type == CANDIDATE:
        value = f'{{{names},{member},"prompt":"p",{fault}}}'
    elif '"prompt"' in fault:
        other = member.replace(':"c"', ':"d"')
        value = f'{{{names},"candidates":[{{{member}}},{{{other}}}],{fault}}}'
    else:
        value = f'{{{names},"prompt":"p","candidates":[{{{member},{fault}}}]}}'
    both_ways(RUN, ce_type, value.encode())


@pytest.mark.parametrize("body", [b"", b"\xff", b'{"a":"\xff"}', b"[]", b"null", b'{"run_id":"r"'])
@pytest.mark.parametrize("ce_type", [CANDIDATE, TURN])
def test_what_is_no_event_is_refused_alike(ce_type: str, body: bytes) -> None:
    written, refused = both_ways(RUN, ce_type, body)
    assert not written
    assert len(refused) == 1
