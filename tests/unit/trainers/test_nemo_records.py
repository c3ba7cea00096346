from __future__ import annotations

import json
from typing import Any

import pytest

from tunestream.events.dataset import DatasetRow, EpisodeRow, PreferenceRow, ResponseRow
from tunestream.events.messages import ChatMessage, OpenAIMessage, Prompt, ToolCall, ToolFunction
from tunestream.events.trajectories import EpisodeItem, EpisodeItemRole, Trajectory, TrajectoryCollection
from tunestream.trainers.collection_rows import rows_of
from tunestream.trainers.nemo.config import NeMoCustomizerTrainerAdapterConfig
from tunestream.trainers.nemo.records import make_records, split


def config(**changes: Any) -> NeMoCustomizerTrainerAdapterConfig:
    values = {
        "entity_host": "http://e",
        "datastore_host": "http://d",
        "namespace": "n",
        "customization_config": "c",
    }
    return NeMoCustomizerTrainerAdapterConfig.model_validate({**values, **changes})


def pair(
    prompt: Prompt = "question", chosen: str = "yes", rejected: str = "no", score: float = 1.0
) -> PreferenceRow:
    return PreferenceRow(
        group_id="g",
        example_id="e",
        turn_id="t",
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        chosen_score=score,
        rejected_score=0.0,
        reward=score,
    )


def episode(*said: tuple[str, str], reward: float = 1.0) -> EpisodeRow:
    items = [
        EpisodeItem(role=EpisodeItemRole(role), content=text, logprobs=0.0 if role == "assistant" else None)
        for role, text in said
    ]
    return EpisodeRow(group_id="g", example_id="e", items=items, reward=reward)


def lines(rows: list[DatasetRow | None], **changes: Any) -> list[Any]:
    return [json.loads(line) for line in make_records(rows, [], config(**changes)).train.splitlines()]


ANSWERED = [OpenAIMessage(role="user", content="q"), OpenAIMessage(role="assistant", content="yes")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (None, "unreadable"),
        (ResponseRow(prompt="q", response="r"), "wrong_kind"),
        (pair(chosen="no"), "identical_responses"),
        (pair(rejected=""), "empty_response"),
        (pair(prompt=" "), "empty_prompt"),
        (pair(prompt=[]), "empty_prompt"),
        (pair(prompt=ANSWERED), "prompt_is_answer"),
        (pair(), "duplicate"),
    ],
)
def test_rows_that_teach_nothing_are_left_out_with_their_reason(row: DatasetRow | None, reason: str) -> None:
    records = make_records([pair(), row, pair("another")], [row], config())
    assert records.skipped == {reason: 1}
    assert records.rows == records.train.count(b"\n") == 2


def test_a_prompt_may_quote_an_answer() -> None:
    assert (
        len(lines([pair(prompt="yes"), pair(prompt=[*ANSWERED, OpenAIMessage(role="user", content="yes")])]))
        == 2
    )


def test_duplicates_stay_if_wanted() -> None:
    assert len(lines([pair(), pair()], deduplicate_pairs=False)) == 2
    assert len(lines([pair(), pair(chosen="no", rejected="yes")])) == 2  # a contradiction is none


def test_a_text_of_messages_is_not_their_message_list() -> None:
    messages = [OpenAIMessage(role="user", content="q")]
    assert len(lines([pair(prompt=messages), pair(prompt=str(messages))])) == 2


def test_the_drawn_rows_depend_on_nothing_but_their_content() -> None:
    rows: list[DatasetRow | None] = [pair(f"q{n}") for n in range(20)]
    some = lines(rows, max_pairs=5)
    assert len(some) == 5
    assert sorted(map(str, lines(rows[::-1], max_pairs=5))) == sorted(map(str, some))
    assert [one["prompt"][0]["content"] for one in some] == sorted(
        (one["prompt"][0]["content"] for one in some), key=lambda text: int(text[1:])
    )
    assert make_records(rows, [], config(max_pairs=5)).skipped == {"max_pairs": 15}


def test_sft_learns_the_best_response_to_each_prompt() -> None:
    rows: list[DatasetRow | None] = [
        pair(chosen="good", score=0.5),
        pair(chosen="best", score=0.9),
        pair("another", chosen="fine"),
        ResponseRow(prompt="given", response="as is"),
        None,
    ]
    found = make_records(rows, [], config(objective="sft", use_full_message_history=False))
    assert [json.loads(line) for line in found.train.splitlines()] == [
        {"prompt": "question", "completion": "best"},
        {"prompt": "another", "completion": "fine"},
        {"prompt": "given", "completion": "as is"},
    ]
    assert found.skipped == {"not_best": 1, "unreadable": 1}


def test_sft_learns_whole_episodes() -> None:
    said = [("system", "play"), ("user", "go"), ("assistant", "5"), ("tool", "taken"), ("assistant", "6")]
    rows: list[DatasetRow | None] = [episode(*said), episode(("user", "go"), reward=0.0)]
    (record,) = lines(rows, objective="sft")
    assert [(one["role"], one["content"]) for one in record["messages"]] == said
    assert lines(rows, objective="sft", use_full_message_history=False) == []


def test_a_split_keeps_prompts_together() -> None:
    rows = [pair(f"q{n % 10}", chosen=str(n)) for n in range(100)]
    train, validation = split("run", rows, 0.3)
    parts = [{row.prompt for row in part if isinstance(row, PreferenceRow)} for part in (train, validation)]
    assert all(parts)
    assert not parts[0] & parts[1]
    assert len(train) + len(validation) == 100
    assert split("run", rows, 1.0) == (rows, [])


def test_a_collection_gives_a_row_for_each_trajectory() -> None:
    answer = EpisodeItem(role=EpisodeItemRole.ASSISTANT, content="a", logprobs=0.0)
    groups = [[Trajectory(episode=[answer], reward=0.5)], [Trajectory(episode=[answer], reward=0.7)]]
    rows = rows_of(TrajectoryCollection(trajectories=groups, run_id="r"))
    assert [(row.group_id, row.reward) for row in rows if isinstance(row, EpisodeRow)] == [
        ("0", 0.5),
        ("1", 0.7),
    ]
    with pytest.raises(ValueError, match="empty"):
        rows_of(TrajectoryCollection(trajectories=[[Trajectory(episode=[], reward=0.0)]], run_id="r"))


CALL = ChatMessage(
    role="assistant", content="", tool_calls=[ToolCall(function=ToolFunction(name="f", arguments="{}"))]
)


def test_answers_that_are_more_than_text_have_no_place_in_preferences() -> None:
    plain = pair("q", chosen="a").model_copy(update={"rejected": ChatMessage(role="assistant", content="b")})
    calling = plain.model_copy(update={"chosen": CALL})
    (record,) = lines([plain, calling])
    assert (record["chosen_response"], record["rejected_response"]) == ("a", "b")
    (shown,) = lines([calling], objective="sft")
    assert shown["messages"][-1]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert lines([calling], objective="sft", use_full_message_history=False) == []
