"""What a turn collects and refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from tests.helpers.bad_records import nested
from tunestream.events.messages import OpenAIMessage
from tunestream.events.trajectories import EpisodeItem, EpisodeItemRole
from tunestream.events.ttc import TTCEpisode, TTCTurnEnd
from tunestream.rows.messages import MessageError
from tunestream.sdk import Turn
from tunestream.sdk.event_records import native_record


def a_turn(expected: int | None = None) -> Turn:
    prompt = [OpenAIMessage(role="user", content="your move")]
    return Turn("run", "game", "turn", prompt=prompt, expected=expected, policy_version="v3")


def test_candidates_are_counted_and_stamped() -> None:
    turn = a_turn()
    first, second = turn.candidate("a", score=1), turn.candidate("b", score=0.5, metadata={"depth": 2})
    assert [first.candidate_index, second.candidate_index] == [0, 1]
    assert first.candidate_id != second.candidate_id
    assert {first.policy_version, second.policy_version} == {"v3"}
    assert second.metadata == {"depth": 2}


def test_what_the_agent_names_is_kept() -> None:
    candidate = a_turn().candidate("a", score=1, index=7, candidate_id="mine")
    assert (candidate.candidate_index, candidate.candidate_id) == (7, "mine")


def test_an_end_follows_the_candidates() -> None:
    turn = a_turn()
    candidate = turn.candidate("a", score=1)
    assert turn.events() == [candidate, TTCTurnEnd(run_id="run", example_id="game", turn_id="turn")]


def test_an_announced_number_needs_no_end() -> None:
    turn = a_turn(expected=2)
    candidate = turn.candidate("a", score=1)
    assert turn.events() == [candidate]
    assert candidate.expected_candidates == 2


def test_an_empty_turn_publishes_nothing() -> None:
    assert a_turn().events() == []


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("score", {"response": "a", "score": math.nan}),
        ("score", {"response": "a", "score": -math.inf}),
        ("score", {"response": "a", "score": "high"}),
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
        Turn("run", "game", "turn", prompt=prompt, expected=None, policy_version=None)


def test_so_are_events_that_were_made_by_hand() -> None:
    items = [EpisodeItem(role=EpisodeItemRole.USER, content="\ud83d")]
    episode = TTCEpisode(run_id="r", example_id="e", episode_id="1", items=items, reward=1)
    with pytest.raises(ValidationError, match=r"items\.0\.content"):
        native_record(episode, source="/tests", time=0)


PARTS = [{"type": "text", "text": "your "}, {"type": "text", "text": "move"}]


def test_messages_are_read_when_the_turn_begins() -> None:
    prompt: Any = [{"role": "user", "content": PARTS, "id": 7}]
    turn = Turn("run", "game", "turn", prompt=prompt, expected=None, policy_version=None)
    assert turn.candidate("a", score=1).prompt == [OpenAIMessage(role="user", content="your move")]
    assert turn.dropped == {"id": 1}


def test_messages_that_cannot_be_trained_on_are_refused_by_field() -> None:
    prompt: Any = [{"role": "user", "content": [*PARTS, {"type": "image_url"}]}]
    with pytest.raises(MessageError, match=r"prompt\.0\.content\.2\.type: is 'image_url'"):
        Turn("run", "game", "turn", prompt=prompt, expected=None, policy_version=None)


def test_a_response_may_be_an_assistants_message() -> None:
    turn = a_turn()
    assert turn.candidate({"role": "assistant", "content": PARTS, "id": 7}, score=1).response == "your move"
    assert turn.dropped == {"id": 1}
    with pytest.raises(MessageError, match=r"response\.role: is 'user'"):
        turn.candidate({"role": "user", "content": "a"}, score=1)
    assert len(turn.candidates) == 1
