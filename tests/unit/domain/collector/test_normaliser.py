"""What becomes of the fields of a candidate, in the stream and as the NeMo Agent Toolkit reads them."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunestream.domain.collector.formats import as_format
from tunestream.domain.collector.nat_parity import parity_prompt, parity_response
from tunestream.domain.collector.nat_steps import normalise_nat
from tunestream.domain.collector.normaliser import normalise_native
from tunestream.domain.effects import Refused
from tunestream.events.ids import candidate_id, episode_id
from tunestream.events.messages import ChatMessage, OpenAIMessage
from tunestream.events.nat import IntermediateStep
from tunestream.events.trajectories import EpisodeItem, EpisodeItemRole
from tunestream.events.ttc import (
    CandidateStep,
    EpisodeStep,
    ExampleEnd,
    TTCCandidate,
    TTCEpisode,
    TTCExampleEnd,
    TTCTurnEnd,
    TurnEnd,
)
from tunestream.events.turns import TurnStep

NAN, INF = float("nan"), float("inf")
ABSENT = object()
FIELDS = {
    "run_id": "r",
    "example_id": "e",
    "turn_id": "t",
    "candidate_id": "c",
    "prompt": "p",
    "response": "o",
    "score": 0.5,
}


def nat_step(**changes: Any) -> IntermediateStep:
    """Return a TTC_END step; ``ABSENT`` leaves a field out, fields of the data go into the data."""
    data = {"input": "p", "output": "o", "turn_id": "t", "candidate_index": 1, "score": 0.5}
    payload: dict[str, Any] = {"event_type": "TTC_END", "name": "move", "UUID": "u", "data": data}
    for name, value in changes.items():
        (data if name in data else payload)[name] = value
    payload = {name: value for name, value in payload.items() if value is not ABSENT}
    if payload.get("data") is data:
        payload["data"] = {name: value for name, value in data.items() if value is not ABSENT}
    return IntermediateStep.model_validate({"payload": payload})


def normalise(
    step: IntermediateStep, *, parity: bool = False
) -> CandidateStep | TurnStep | ExampleEnd | None:
    return normalise_nat(step, run_id="r", example_id="e", ttc_step_name="move", parity=parity)


def candidate(*, parity: bool = False, **changes: Any) -> CandidateStep:
    found = normalise(nat_step(**changes), parity=parity)
    assert isinstance(found, CandidateStep)
    return found


def refusal(*, parity: bool = False, **changes: Any) -> str:
    with pytest.raises(Refused) as caught:
        candidate(parity=parity, **changes)
    return caught.value.code


both = pytest.mark.parametrize("parity", [False, True])


def test_a_step_becomes_a_candidate() -> None:
    metadata = {"policy_version": "v1", "k": [1]}
    assert candidate(metadata=metadata) == CandidateStep(
        run_id="r",
        example_id="e",
        turn_id="t",
        candidate_id=candidate_id("r", "e", "t", "u"),
        candidate_index=1,
        prompt="p",
        response="o",
        score=0.5,
        policy_version="v1",
        raw_metadata=metadata,
    )


def test_the_end_of_the_workflow_ends_the_example() -> None:
    assert normalise(nat_step(event_type="WORKFLOW_END")) == ExampleEnd(run_id="r", example_id="e")


@both
@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"name": ABSENT},
        {"name": "Move"},
        {"event_type": "TTC_START"},
        {"event_type": "LLM_END"},
        {"event_type": "CUSTOM_END"},
        {"event_type": "LLM_END", "data": ABSENT},
    ],
)
def test_other_steps_are_ignored(changes: dict[str, Any], parity: bool) -> None:
    assert normalise(nat_step(**changes), parity=parity) is None


@both
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"data": None}, "schema.missing"),
        ({"data": ABSENT}, "schema.missing"),
        ({"turn_id": None}, "schema.missing"),
        ({"turn_id": ABSENT}, "schema.missing"),
        ({"turn_id": 3}, "schema.wrong_type"),
        ({"score": None}, "schema.missing"),
        ({"score": ABSENT}, "schema.missing"),
        ({"score": "abc"}, "schema.wrong_type"),
        ({"score": [0.5]}, "schema.wrong_type"),
        ({"score": NAN}, "non_finite"),
        ({"score": -INF}, "non_finite"),
        ({"score": "inf"}, "non_finite"),
        ({"score": "NaN", "candidate_index": None}, "non_finite"),
        ({"candidate_index": 1.5}, "schema.wrong_type"),
        ({"candidate_index": "x"}, "schema.wrong_type"),
    ],
)
def test_refused_either_way(changes: dict[str, Any], code: str, parity: bool) -> None:
    assert refusal(parity=parity, **changes) == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"turn_id": ""}, "schema.bounds"),
        ({"output": None}, "schema.missing"),
        ({"output": ABSENT}, "schema.missing"),
        ({"UUID": ABSENT}, "schema.missing"),
        ({"UUID": ""}, "schema.missing"),
        ({"score": 1e200}, "schema.score_range"),
        ({"score": -1e151}, "schema.score_range"),
    ],
)
def test_refused_except_in_parity(changes: dict[str, Any], code: str) -> None:
    assert refusal(**changes) == code
    candidate(parity=True, **changes)


@pytest.mark.parametrize("name", ["turn_id", "score", "output"])
def test_a_reason_names_the_field(name: str) -> None:
    changes: dict[str, Any] = {name: None}
    with pytest.raises(Refused, match=rf"payload\.data\.{name} is missing"):
        candidate(**changes)


@both
@pytest.mark.parametrize(
    ("score", "read"),
    [(0.5, 0.5), (1, 1.0), ("0.5", 0.5), (True, 1.0), (0, 0.0), ("-1e3", -1000.0), (1e150, 1e150)],
)
def test_scores_of_lenient_types(score: object, read: float, parity: bool) -> None:
    found = candidate(score=score, parity=parity).score
    assert found == read
    assert type(found) is float


@both
@pytest.mark.parametrize(("index", "read"), [(0, 0), (1.0, 1), ("3", 3), (-2, -2)])
def test_indices_of_lenient_types(index: object, read: int, parity: bool) -> None:
    assert candidate(candidate_index=index, parity=parity).candidate_index == read


@pytest.mark.parametrize("missing", [None, ABSENT])
def test_a_missing_index_is_unknown_and_in_parity_0(missing: object) -> None:
    assert candidate(candidate_index=missing).candidate_index is None
    assert candidate(candidate_index=missing, parity=True).candidate_index == 0


USER = {"role": "user", "content": "c"}


@pytest.mark.parametrize(
    ("value", "prompt", "in_parity"),
    [
        (None, "", ""),
        ("text", "text", "text"),
        ("", "", ""),
        ([], [], []),
        ([USER], [OpenAIMessage(**USER)], [OpenAIMessage(**USER)]),
        ([USER | {"tool_calls": []}], [OpenAIMessage(**USER)], [OpenAIMessage(**USER)]),
        ([USER | {"name": "n"}], [ChatMessage(**USER, name="n")], [OpenAIMessage(**USER)]),
        ([USER | {"id": 7}], [OpenAIMessage(**USER)], [OpenAIMessage(**USER)]),
        ([{"role": "user", "content": [{"type": "text", "text": "c"}]}], [OpenAIMessage(**USER)], ...),
        ([USER, {"role": "user"}], "input.1.content", ...),
        ([USER | {"content": None}], "input.0.content", ...),
        ([USER, "é"], "input.1", ...),
        ({"a": None}, "input", "{'a': None}"),
        (7, "input", "7"),
        (False, "input", "False"),
    ],
)
def test_prompts(value: object, prompt: object, in_parity: object) -> None:
    assert parity_prompt(value) == (str(value) if in_parity is ... else in_parity)
    if isinstance(prompt, str) and prompt.startswith("input"):
        with pytest.raises(Refused, match=rf"payload\.data\.{prompt}: is .*; "):
            candidate(input=value)
    else:
        assert candidate(input=value).prompt == prompt


ASSISTANT = {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
    ("value", "response", "in_parity"),
    [
        ("text", "text", "text"),
        ("", "", ""),
        (ASSISTANT, "a", str(ASSISTANT)),
        ([ASSISTANT], "a", str([ASSISTANT])),
        (7, None, "7"),
        (0, None, ""),
        (False, None, ""),
        (True, None, "True"),
        ([], None, ""),
        ({"a": None, "ü": 1.5}, None, "{'a': None, 'ü': 1.5}"),
    ],
)
def test_responses(value: object, response: str | None, in_parity: str) -> None:
    assert parity_response(value) == in_parity
    if response is None:
        assert refusal(output=value) == ("schema.missing" if isinstance(value, dict) else "schema.wrong_type")
    else:
        assert candidate(output=value).response == response


CALLS: list[dict[str, Any]] = [
    {"role": "user", "content": "w?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "sunny"}], "weight": 1},
]


def test_messages_are_read_alike_by_every_way_in() -> None:
    dropped: Counter[str] = Counter()
    event = TTCCandidate.model_validate_json(json.dumps(FIELDS | {"prompt": CALLS}))
    native_one = normalise_native(event, dropped)
    assert isinstance(native_one, CandidateStep)
    assert native_one.prompt == candidate(input=CALLS).prompt
    assert dropped == {"weight": 1}
    assert CandidateStep.model_validate_json(native_one.to_json()) == native_one
    assert isinstance(native_one.prompt, list)
    assert [type(message) for message in native_one.prompt] == [OpenAIMessage, ChatMessage, ChatMessage]


@pytest.mark.parametrize("content", [[{"type": "image_url", "image_url": {}}], {"a": 1}, None])
def test_what_cannot_be_trained_on_is_refused_by_every_way_in(content: object) -> None:
    prompt = [{"role": "user", "content": content}]
    event = TTCCandidate.model_validate_json(json.dumps(FIELDS | {"prompt": prompt}))
    with pytest.raises(Refused, match=r"prompt\.0\.content"):
        normalise_native(event)
    with pytest.raises(Refused, match=r"payload\.data\.input\.0\.content"):
        candidate(input=prompt)


@pytest.mark.parametrize(
    "response", [{"role": "assistant", "content": "hi"}, [{"role": "assistant", "content": "hi"}]]
)
def test_a_response_may_be_a_message_by_every_way_in(response: object) -> None:
    event = TTCCandidate.model_validate_json(json.dumps(FIELDS | {"response": response}))
    native_one = normalise_native(event)
    assert isinstance(native_one, CandidateStep)
    assert native_one.response == candidate(output=response).response == "hi"


@pytest.mark.parametrize("content", [None, ""])
def test_arguments_of_calls_are_finite(content: object) -> None:
    call = {"function": {"name": "f", "arguments": {"seconds": float("nan")}}}
    prompt = [{"role": "assistant", "content": content, "tool_calls": [call]}]
    event = TTCCandidate.model_validate_json(json.dumps(FIELDS | {"prompt": prompt}))
    with pytest.raises(Refused, match=r"arguments: seconds: nan is not finite") as caught:
        normalise_native(event)
    assert caught.value.code == "non_finite"


def test_the_first_format_knows_role_and_content_alone() -> None:
    named = candidate(input=[USER | {"name": "n"}])
    dropped: Counter[str] = Counter()
    assert as_format(named, 2, dropped) is named
    assert as_format(named, 1, dropped).prompt == [OpenAIMessage(**USER)]
    assert dropped == {"name": 1}
    with pytest.raises(Refused, match="finish the upgrade"):
        as_format(candidate(input=CALLS), 1, dropped)


@pytest.mark.parametrize("version", [None, "", 3, ["v"]])
def test_only_a_text_is_a_policy_version(version: object) -> None:
    found = candidate(metadata={"policy_version": version})
    assert found.policy_version is None
    assert found.raw_metadata == {"policy_version": version}


def test_without_metadata_it_is_empty() -> None:
    assert candidate(metadata=None).raw_metadata == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.fixed_dictionaries(dict.fromkeys(("input", "output", "turn_id", "candidate_index", "score"), JSON)))
def test_any_data_is_a_candidate_or_refused_by_name(data: dict[str, Any]) -> None:
    for parity in (False, True):
        found = outcome(data, parity=parity)
        if isinstance(found, Refused):
            assert found.code.startswith(("schema.", "non_finite"))
            assert "payload.data." in found.message
        else:
            assert CandidateStep.model_validate_json(found.to_json()) == found


def outcome(data: dict[str, Any], *, parity: bool) -> CandidateStep | Refused:
    try:
        return candidate(data=data, parity=parity)
    except Refused as refused:
        return refused


def native(**changes: Any) -> TTCCandidate:
    return TTCCandidate.model_validate(FIELDS | changes)


def test_a_native_candidate_keeps_all_it_says() -> None:
    said = {"candidate_index": 2, "expected_candidates": 4, "policy_version": "v", "metadata": {"k": 1}}
    found = normalise_native(native(**said))
    assert isinstance(found, CandidateStep)
    assert found.candidate_id == candidate_id("r", "e", "t", "c")
    assert found.raw_metadata == {"k": 1}
    assert (found.candidate_index, found.expected_candidates, found.policy_version) == (2, 4, "v")
    assert (found.prompt, found.response, found.score) == ("p", "o", 0.5)


def test_a_native_candidate_without_an_index_has_none() -> None:
    found = normalise_native(native())
    assert isinstance(found, CandidateStep)
    assert found.candidate_index is None
    assert found.raw_metadata == {}


def test_native_markers() -> None:
    turn = TTCTurnEnd(run_id="r", example_id="e", turn_id="t")
    assert normalise_native(turn) == TurnEnd(run_id="r", example_id="e", turn_id="t")
    assert normalise_native(TTCExampleEnd(run_id="r", example_id="e")) == ExampleEnd(
        run_id="r", example_id="e"
    )


def episode(reward: float) -> TTCEpisode:
    items = [
        EpisodeItem(role=EpisodeItemRole.USER, content="u"),
        EpisodeItem(role=EpisodeItemRole.ASSISTANT, content="a", logprobs=[-0.5]),
    ]
    return TTCEpisode(run_id="r", example_id="e", episode_id="x", items=items, reward=reward)


def test_a_native_episode_keeps_its_items() -> None:
    sent = episode(1.5)
    found = normalise_native(sent)
    assert isinstance(found, EpisodeStep)
    assert (found.items, found.reward) == (sent.items, 1.5)
    assert found.episode_id == episode_id("r", "e", "x")


@pytest.mark.parametrize("body", [native(score=2e150), native(score=-2e150), episode(1e300)])
def test_native_numbers_stay_in_the_range_of_differences(body: TTCCandidate | TTCEpisode) -> None:
    with pytest.raises(Refused, match=r"scale scores into ±1e\+150") as caught:
        normalise_native(body)
    assert caught.value.code == "schema.score_range"
