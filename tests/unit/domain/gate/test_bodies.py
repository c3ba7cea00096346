"""Groups of both versions through the gate: the same decisions, and the same bytes of rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tunestream.domain.effects import Refused
from tunestream.domain.gate.bodies import arrival_of, read_group, reference_in
from tunestream.domain.gate.dataset_rows import lines_of, rows_of
from tunestream.events.groups import GroupContext, GroupMember, PairingRule, PreferenceGroup
from tunestream.events.messages import ChatMessage, OpenAIMessage, Prompt
from tunestream.events.trajectories import CloseReason, TrajectoryGroup, TrajectoryGroupRef
from tunestream.events.views.groups import PreferenceGroupView

TEXT = st.text(max_size=20) | st.sampled_from(["", "ü\u2028", '"\\/\n\x00\x7f', "😀", "</x>"])
IDS = st.text(min_size=1, max_size=8)
TOKENS = st.none() | st.lists(st.integers(0, 2**40), min_size=1, max_size=4)
NUMBERS = st.integers() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
ANY = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(TEXT, ANY, max_size=3)
CALLS = st.lists(
    st.fixed_dictionaries(
        {"function": st.fixed_dictionaries({"name": TEXT, "arguments": TEXT | OBJECTS})},
        optional={"id": TEXT, "type": st.just("function")},
    ),
    min_size=1,
    max_size=2,
)
MESSAGES = st.fixed_dictionaries(
    {"role": TEXT, "content": TEXT},
    optional={"tool_calls": CALLS, "tool_call_id": TEXT, "name": TEXT, "reasoning_content": TEXT},
)
PROMPTS = TEXT | st.lists(st.fixed_dictionaries({"role": TEXT, "content": TEXT}) | MESSAGES, max_size=3)
CONTEXTS = st.fixed_dictionaries(
    {"prompt": PROMPTS},
    optional={"tools": st.none() | st.lists(OBJECTS, min_size=1, max_size=2), "token_ids": TOKENS},
)
VERSIONS = st.none() | st.sampled_from(["v1", "v2", "ü3"])


def members(contexts: int) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "id": IDS,
            "response": TEXT | MESSAGES,
            "score": st.floats(allow_nan=False, allow_infinity=False),
        },
        optional={
            "index": st.none() | st.integers(),
            "context": st.integers(0, contexts - 1),
            "policy_version": VERSIONS,
            "token_ids": TOKENS,
            "metadata": OBJECTS,
        },
    )


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """Return a group of version 2 as JSON values."""
    contexts = draw(st.lists(CONTEXTS, min_size=1, max_size=2))
    found = draw(st.lists(members(len(contexts)), min_size=1, max_size=4))
    at = st.integers(0, len(found) - 1)
    reward = st.floats(allow_nan=False, allow_infinity=False)
    return {
        "run_id": draw(IDS),
        "group_id": draw(IDS),
        "example_id": draw(IDS),
        "turn_id": draw(TEXT),
        "config_digest": draw(TEXT),
        "kind": "preference",
        "closed_by": draw(st.sampled_from(list(CloseReason))),
        "contexts": contexts,
        "members": found,
        "pairing": {"exhaustive": draw(st.booleans()), "reward": "score_diff"},
        "pairs": draw(st.lists(st.tuples(at, at, reward), max_size=5)),
        "unscored": draw(st.integers(0, 3)),
        "skipped": draw(st.dictionaries(TEXT, st.integers(), max_size=2)),
    }


def encoded(body: dict[str, Any], seed: int) -> bytes:
    """Return one of the ways to write a body."""
    ways: list[Callable[[], bytes]] = [
        lambda: json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(),
        lambda: json.dumps(body, indent=1).encode(),
        lambda: PreferenceGroup.model_validate(body).to_json(),
    ]
    return ways[seed % len(ways)]()


def seen(view: PreferenceGroupView, model: PreferenceGroup) -> bool:
    """Return whether a view has the values of a model, as far as it has them."""
    return (
        all(
            getattr(view, name) == getattr(model, name)
            for name in ("run_id", "group_id", "example_id", "turn_id", "config_digest", "closed_by")
        )
        and [(one.id, one.index, one.context, one.score, one.policy_version) for one in view.members]
        == [(one.id, one.index, one.context, one.score, one.policy_version) for one in model.members]
        and [(one.chosen, one.rejected, one.reward) for one in view.pairs] == list(model.pairs)
        and (view.unscored, view.skipped) == (model.unscored, model.skipped)
    )


@given(bodies(), st.integers(0, 2))
def test_a_view_of_a_group_has_the_values_of_its_model(body: dict[str, Any], seed: int) -> None:
    value = encoded(body, seed)
    model = PreferenceGroup.of_service(value)
    view = PreferenceGroupView.read(value)
    assert view is None or seen(view, model)
    assert seen(PreferenceGroupView.of(model), model)
    read = read_group(value)
    assert isinstance(read, PreferenceGroupView)
    assert seen(read, model)


DEEP = json.loads("[" * 150 + "]" * 150)
SPOILT: list[Any] = [
    None, True, 1.5, -1, "", "1", "x" * 513, [], {}, [[]], [None], {"x": DEEP}, [1, 2], [1, 2, 3, 4], 10**40,
    float("nan"), float("inf"), "system", {"role": "user"}, {"role": "user", "content": None},
    {"role": "user", "content": "x", "more": 1}, [{"role": "user", "content": "x", "tool_calls": []}],
    {"role": "a", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"x": DEEP}}}]},
    {"role": "a", "content": "", "tool_calls": [{"type": "x", "function": {"name": "f", "arguments": ""}}]},
    [{"x": float("inf")}], [{"x": DEEP}], [-1], [1.0], [True],
]  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every place of a JSON value: its container and its key."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found: list[tuple[Any, Any]] = []
    for key, one in inner:
        found += [(value, key), *places(one)]
    return found


@given(bodies(), st.randoms(use_true_random=False), st.sampled_from(SPOILT), st.booleans())
def test_what_the_model_refuses_of_a_group_the_view_does_not_accept(
    body: dict[str, Any], chance: Random, spoilt: Any, removed: bool
) -> None:
    body = json.loads(json.dumps(body))
    container, key = chance.choice(places(body))
    if removed:
        del container[key]
    else:
        container[key] = spoilt
    value = json.dumps(body).replace("Infinity", "1e999").encode()
    view = PreferenceGroupView.read(value)
    try:
        model = PreferenceGroup.of_service(value)
    except ValidationError:
        assert view is None
    else:
        assert view is None or seen(view, model)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"id":"a"', b'"id":"\xff"'),
        (b'"metadata":{}', b'"metadata":{"x":"\xff"}'),
        (b'"metadata":{}', b'"metadata":{"x":"\\ud800"}'),
        (b'"metadata":{}', b'"metadata":{"x":' + b"[" * 250 + b"]" * 250 + b"}"),
        (b'"response":"a"', b'"response":"\\ud800"'),
        (b'"response":"a"', b'"response":"\xed\xa0\x80"'),
        (b'"prompt":"p"', b'"prompt":[{"role":"user","content":"\\ud83d"}]'),
        (b'"score":1.0', b'"score":1e999'),
        (b'"score":1.0', b'"score":NaN'),
        (b'"run_id":"r"', b'"run_id":"r","later":"\xff"'),
    ],
)
def test_bytes_that_no_model_takes_are_in_no_view(old: bytes, new: bytes) -> None:
    value = group().to_json()
    assert old in value
    spoilt = value.replace(old, new, 1)
    with pytest.raises(ValidationError):
        PreferenceGroup.of_service(spoilt)
    assert PreferenceGroupView.read(spoilt) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"run_id":"r"', b'"run_id":"x","run_id":"r"'),
        (b'"score":1.0', b'"score":7,"score":1'),
        (b'"index":0', b'"index":null'),
        (b'"metadata":{}', b'"metadata":{"n":' + b"9" * 3000 + b"}"),
    ],
)
def test_what_both_take_has_the_same_values(old: bytes, new: bytes) -> None:
    value = group().to_json()
    assert old in value
    changed = value.replace(old, new, 1)
    view = PreferenceGroupView.read(changed)
    assert view is not None
    assert seen(view, PreferenceGroup.of_service(changed))


@pytest.mark.parametrize(("levels", "read"), [(1, True), (60, True), (95, False), (150, False)])
def test_code_in_texts_and_large_tools_are_read_by_the_view_and_deep_values_by_the_model(
    levels: int, read: bool
) -> None:
    deep = json.loads('{"x":' * levels + "1" + "}" * levels)
    code = 'if (x["a"]) { y = [[1], {"b": "\\\\"}]; } \\" ' * 50
    tools = [{"type": "function", "function": {"name": f"f{at}", "parameters": {}}} for at in range(60)]
    body = json.loads(group(prompt=code).to_json())
    body["contexts"][0]["tools"] = tools
    body["members"][0]["metadata"] = deep
    value = json.dumps(body).encode()
    assert (PreferenceGroupView.read(value) is not None) is read
    assert seen(read_group(value), PreferenceGroup.of_service(value))  # type: ignore[arg-type]


@pytest.mark.parametrize(("levels", "read"), [(1, True), (60, True), (150, False)])
def test_metadata_of_many_candidates_is_read_by_the_view_unless_that_of_one_is_deep(
    levels: int, read: bool
) -> None:
    body = json.loads(group().to_json())
    one = body["members"][0] | {"metadata": {"tags": ["a"], "at": {}}}
    deep = one | {"metadata": json.loads('{"x":' * levels + "1" + "}" * levels)}
    body["members"] = [one] * 120 + [deep]
    value = json.dumps(body).encode()
    assert (PreferenceGroupView.read(value) is not None) is read
    assert seen(read_group(value), PreferenceGroup.of_service(value))  # type: ignore[arg-type]


def test_a_field_of_a_later_release_is_left_to_the_model() -> None:
    value = group().to_json()[:-1] + b',"later":{"a":[]}}'
    assert PreferenceGroupView.read(value) is None
    assert seen(read_group(value), PreferenceGroup.of_service(value))  # type: ignore[arg-type]


def group(prompt: Prompt = "p", **changes: Any) -> PreferenceGroup:
    """Return a group of three candidates and two pairs."""
    made = PreferenceGroup(
        run_id="r",
        group_id="g",
        example_id="e",
        turn_id="t",
        config_digest="d",
        closed_by=CloseReason.COMPLETE,
        contexts=[GroupContext(prompt=prompt)],
        members=[
            GroupMember(id="a", index=0, response="a", score=1.0, policy_version="v2"),
            GroupMember(id="b", index=1, response="b", score=0.0, policy_version="v1"),
            GroupMember(id="c", index=2, response=ChatMessage(role="assistant", content="c"), score=0.5),
        ],
        pairing=PairingRule(exhaustive=True, reward="score_diff"),
        pairs=[(0, 1, 1.0), (2, 1, 0.5)],
    )
    return made.model_copy(update=changes)


def spelt_out(body: PreferenceGroup) -> TrajectoryGroup:
    """Return a group as version 1 has it."""
    return TrajectoryGroup(
        run_id=body.run_id,
        group_id=body.group_id,
        example_id=body.example_id,
        turn_id=body.turn_id,
        config_digest=body.config_digest,
        kind="preference",
        closed_by=body.closed_by,
        scores=body.scores,
        trajectories=body.trajectories,
        skipped=body.skipped,
    )


@given(bodies(), st.integers(0, 2), st.sampled_from([0.0, 0.5]))
def test_rows_of_both_versions_are_the_same_bytes(body: dict[str, Any], seed: int, fraction: float) -> None:
    value = encoded(body, seed)
    model = PreferenceGroup.of_service(value)
    lines = list(lines_of(value, fraction))
    assert [line.text for line in lines] == [row.to_json() for row in rows_of(model)]
    assert lines == list(lines_of(spelt_out(model).to_json(), fraction))
    assert all(b"null" not in line.text or "null" in repr(body) or None in _leaves(body) for line in lines)


def _leaves(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return [leaf for one in inner for leaf in (_leaves(one) if isinstance(one, dict | list) else [one])]


@given(bodies(), st.integers(0, 2))
def test_the_gate_decides_the_same_by_both_versions(body: dict[str, Any], seed: int) -> None:
    model = PreferenceGroup.of_service(encoded(body, seed))
    one, other = arrival_of(PreferenceGroupView.of(model)), arrival_of(spelt_out(model))
    assert one._replace(unscored=0) == other


def test_a_row_leaves_out_what_is_absent() -> None:
    (first, second) = lines_of(group(prompt=[OpenAIMessage(role="user", content="p")]).to_json(), 0.0)
    assert json.loads(first.text) == {
        "group_id": "g",
        "example_id": "e",
        "turn_id": "t",
        "prompt": [{"role": "user", "content": "p"}],
        "chosen": "a",
        "rejected": "b",
        "chosen_score": 1.0,
        "rejected_score": 0.0,
        "reward": 1.0,
        "policy_version": "v2",
    }
    assert json.loads(second.text)["chosen"] == {"role": "assistant", "content": "c"}
    assert (first.policy_version, second.policy_version) == ("v2", "v1")


def test_drawn_trajectories_alone_make_rows() -> None:
    body = group()
    every = list(lines_of(body.to_json(), 0.0))
    for value in (body.to_json(), spelt_out(body).to_json()):
        assert list(lines_of(value, 0.0, [1])) == every[1:]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"pairs": [(0, 3, 1.0)]}, "pairs 0 and 3 of 3 members"),
        ({"contexts": []}, "names a context of 0"),
    ],
)
def test_positions_that_are_not_there_are_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(Refused, match=problem):
        arrival_of(read_group(group(**changes).to_json()))


def test_a_reference_is_told_from_a_body() -> None:
    ref = TrajectoryGroupRef(run_id="r", group_id="g", uri="artifact://x", sha256="0", size=1)
    assert reference_in(ref.to_json()) == ref
    assert reference_in(group().to_json()) is None
    assert reference_in(spelt_out(group()).to_json()) is None
