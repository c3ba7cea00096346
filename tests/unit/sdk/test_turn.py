"""What a turn collects and refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from tests.helpers.bad_records import nested
from tunestream.events.messages import ChatMessage, OpenAIMessage
from tunestream.events.trajectories import EpisodeItem, EpisodeItemRole
from tunestream.events.ttc import TTCCandidate, TTCEpisode, TTCTurnEnd
from tunestream.events.turns import TTCTurn
from tunestream.rows.messages import MessageError
from tunestream.sdk import Turn
from tunestream.sdk.event_records import native_record
from tunestream.sdk.pieces import NotInThisFormat


def a_turn(expected: int | None = None) -> Turn:
    prompt = [OpenAIMessage(role="user", content="your move")]
    return Turn("run", "game", "turn", prompt=prompt, expected=expected, policy_version="v3")


def test_candidates_are_counted_and_stamped() -> None:
    turn = a_turn()
    first, second = turn.candidate("a", score=1), turn.candidate("b", score=0.5, metadata={"depth": 2})
    assert [first.candidate_index, second.candidate_index] == [0, 1]
    assert first.candidate_id != second.candidate_id
    assert turn.whole().policy_version == "v3"
    assert {event.policy_version for event in singles(turn)} == {"v3"}
    assert second.metadata == {"depth": 2}


def test_what_the_agent_names_is_kept() -> None:
    candidate = a_turn().candidate("a", score=1, index=7, candidate_id="mine")
    assert (candidate.candidate_index, candidate.candidate_id) == (7, "mine")


def test_a_candidate_may_have_a_version_of_its_own() -> None:
    turn = a_turn()
    turn.candidate("a", score=1, policy_version="v4")
    assert [event.policy_version for event in singles(turn)] == ["v4"]
    assert turn.whole().candidates[0].policy_version == "v4"


def singles(turn: Turn) -> list[TTCCandidate]:
    """Return the single candidates among a turn's events."""
    return [event for event in turn.events() if isinstance(event, TTCCandidate)]


def test_a_whole_turn_has_everything_once() -> None:
    turn = Turn("run", "game", "t", prompt="p", policy_version="v3", tools=[TOOL], prompt_token_ids=[1, 2])
    first = turn.candidate("a", score=None, token_ids=[3])
    second = turn.candidate(CALL, score=1, metadata={"depth": 2})
    assert turn.whole() == TTCTurn(
        run_id="run",
        example_id="game",
        turn_id="t",
        prompt="p",
        tools=[TOOL],
        prompt_token_ids=[1, 2],
        candidates=[first, second],
        policy_version="v3",
    )
    assert (first.score, first.token_ids, second.response) == (None, [3], CALL)


TOOL: dict[str, Any] = {"type": "function", "function": {"name": "board"}}
CALL: dict[str, Any] = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": "board", "arguments": "{}"}}],
}


def test_an_end_follows_the_candidates() -> None:
    turn = a_turn()
    candidate = turn.candidate("a", score=1)
    single, end = turn.events()
    assert single == TTCCandidate(
        run_id="run",
        example_id="game",
        turn_id="turn",
        candidate_id=candidate.candidate_id,
        candidate_index=0,
        prompt=[OpenAIMessage(role="user", content="your move")],
        response="a",
        score=1,
        policy_version="v3",
    )
    assert end == TTCTurnEnd(run_id="run", example_id="game", turn_id="turn")
    assert turn.whole().complete


def test_an_announced_number_needs_no_end() -> None:
    turn = a_turn(expected=2)
    turn.candidate("a", score=1)
    assert [event.expected_candidates for event in singles(turn)] == [2]
    assert len(turn.events()) == 1
    assert (turn.whole().complete, turn.whole().expected_candidates) == (False, 2)


def test_an_empty_turn_publishes_nothing() -> None:
    assert a_turn().events() == []


@pytest.mark.parametrize(
    ("of_turn", "of_candidate"),
    [
        ({}, {"score": None}),
        ({}, {"response": CALL}),
        ({}, {"response": ChatMessage(role="assistant", content="a", reasoning_content="since")}),
        ({}, {"token_ids": [1]}),
        ({"tools": [TOOL]}, {}),
        ({"prompt_token_ids": [1]}, {}),
    ],
    ids=["no-score", "tool-calls", "reasoning", "token-ids", "tools", "prompt-token-ids"],
)
def test_what_a_single_candidate_cannot_hold_is_a_part_of_the_turn(
    of_turn: dict[str, Any], of_candidate: dict[str, Any]
) -> None:
    turn = Turn("run", "game", "turn", prompt="p", expected=2, **of_turn)
    fields: Any = {"response": "a", "score": 1.0} | of_candidate
    candidate = turn.candidate(**fields)
    assert turn.events() == [turn.whole().model_copy(update={"candidates": [candidate], "complete": False})]

    with pytest.raises(NotInThisFormat, match=r"format 2.*tunestream upgrade finish"):
        Turn("run", "game", "turn", prompt="p", old_format=2, **of_turn).candidate(**fields)


def test_a_turn_that_streams_gives_each_candidate_away_as_it_is_added() -> None:
    given: list[object] = []
    turn = Turn("run", "game", "turn", prompt="p", added=given.append)
    turn.candidate("a", score=1)
    assert given == turn.events()[:1]
    turn.candidate("b", score=None)
    assert given == turn.events()[:2]
    assert turn.end() == turn.events()[2:]


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("score", {"response": "a", "score": math.nan}),
        ("score", {"response": "a", "score": -math.inf}),
        ("score", {"response": "a", "score": "high"}),
        ("token_ids", {"response": "a", "score": 1.0, "token_ids": []}),
        ("response", {"response": None, "score": 1.0}),
        ("candidate_id", {"response": "a", "score": 1.0, "candidate_id": ""}),
        ("metadata", {"response": "a", "score": 1.0, "metadata": {"usage": {"seconds": math.nan}}}),
        ("metadata", {"response": "a", "score": 1.0, "metadata": nested(101)}),
    ],
)
def test_a_bad_field_is_refused_at_the_call_and_named(field: str, arguments: dict[str, object]) -> None:
    turn = a_turn()
    with pytest.raises(ValidationError, match=field):
        turn.candidate(**arguments)  # type: ignore[arg-type]
    assert turn.candidates == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"response": "half of an emoji: \ud83d"}, "response"),
        ({"response": "r", "metadata": {"notes": ["fine", "\udcff"]}}, "metadata.notes.1"),
        ({"response": "r", "metadata": {"\ud83d": 1}}, "metadata"),
    ],
)
def test_text_that_utf8_cannot_hold_is_refused_by_field(fields: Any, field: str) -> None:
    turn = a_turn()
    with pytest.raises(ValidationError, match=r"not text: lone surrogate \\ud") as raised:
        turn.candidate(score=1, **fields)
    assert raised.value.errors()[0]["loc"] == tuple(field.split("."))
    assert turn.candidates == []


@pytest.mark.parametrize("prompt", ["\ud83d", [{"role": "user", "content": "\ud83d"}]])
def test_so_is_a_prompt(prompt: Any) -> None:
    with pytest.raises(ValidationError, match="prompt"):
        Turn("run", "game", "turn", prompt=prompt)


def test_so_are_events_that_were_made_by_hand() -> None:
    items = [EpisodeItem(role=EpisodeItemRole.USER, content="\ud83d")]
    episode = TTCEpisode(run_id="r", example_id="e", episode_id="1", items=items, reward=1)
    with pytest.raises(ValidationError, match=r"items\.0\.content"):
        native_record(episode, source="/tests", time=0)


PARTS = [{"type": "text", "text": "your "}, {"type": "text", "text": "move"}]


def test_messages_are_read_when_the_turn_begins() -> None:
    prompt: Any = [{"role": "user", "content": PARTS, "id": 7}]
    turn = Turn("run", "game", "turn", prompt=prompt)
    assert turn.whole().prompt == [OpenAIMessage(role="user", content="your move")]
    assert turn.dropped == {"id": 1}


def test_messages_that_cannot_be_trained_on_are_refused_by_field() -> None:
    prompt: Any = [{"role": "user", "content": [*PARTS, {"type": "image_url"}]}]
    with pytest.raises(MessageError, match=r"prompt\.0\.content\.2\.type: is 'image_url'"):
        Turn("run", "game", "turn", prompt=prompt)


def test_a_response_may_be_an_assistants_message() -> None:
    turn = a_turn()
    assert turn.candidate({"role": "assistant", "content": PARTS, "id": 7}, score=1).response == "your move"
    assert turn.dropped == {"id": 1}
    with pytest.raises(MessageError, match=r"response\.role: is 'user'"):
        turn.candidate({"role": "user", "content": "a"}, score=1)
    assert len(turn.candidates) == 1
