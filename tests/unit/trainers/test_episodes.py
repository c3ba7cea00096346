from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoTokenizer

from tests.helpers.tiny_model import WORDS, said, write_tiny_model
from tunestream.events.dataset import EpisodeRow
from tunestream.events.trajectories import EpisodeItem, EpisodeItemRole
from tunestream.trainers.trl.episodes import demonstrate, replay
from tunestream.trainers.trl.examples import Episode, Marked
from tunestream.trainers.trl.logprobs import Token, Unusable, read_logprobs


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(write_tiny_model(tmp_path_factory.mktemp("tokenizer") / "tiny"))


def other(role: EpisodeItemRole, content: str) -> EpisodeItem:
    return EpisodeItem(role=role, content=content)


def answer(content: str, logprobs: Any) -> EpisodeItem:
    return EpisodeItem(role=EpisodeItemRole.ASSISTANT, content=content, logprobs=logprobs)


def row(*items: EpisodeItem) -> EpisodeRow:
    return EpisodeRow(group_id="g", example_id="e", items=list(items), reward=1.0)


NO_WORD = "<unk>"  # the tiny vocabulary has no <tool>
USER = other(EpisodeItemRole.USER, "a")
TOOL = other(EpisodeItemRole.TOOL, "b")


def words(ids: list[int]) -> str:
    return " ".join(WORDS[token] for token in ids)


def replayed(tokenizer: Any, *items: EpisodeItem, limit: int | None = None) -> Episode:
    episode = replay(row(*items), tokenizer, limit, 0.5)
    assert isinstance(episode, Episode), episode
    return episode


def marked(episode: Episode | Marked) -> str:
    return words([token for token, mask in zip(episode.input_ids, episode.mask, strict=True) if mask])


def test_a_message_of_the_policy_is_trained_by_its_records(tokenizer: Any) -> None:
    episode = replayed(tokenizer, USER, said("red", logprob=-0.5), TOOL, said("blue", logprob=-0.25), USER)
    assert words(episode.input_ids) == (
        f"<user> a <end> <assistant> red <end> {NO_WORD} b <end> <assistant> blue <end>"
    )
    assert marked(episode) == "red blue"
    pairs = zip(episode.mask, episode.old_logps, strict=True)
    assert [logprob for mask, logprob in pairs if mask] == [-0.5, -0.25]
    assert sum(episode.old_logps) == -0.75
    assert (episode.advantage, episode.tokens) == (0.5, 12)


@pytest.mark.parametrize(
    "logprobs",
    [
        {"content": [{"token": "red", "logprob": -0.5}, {"token": "blue", "logprob": -1}]},
        [{"token": "red", "logprob": -0.5}, {"token": " blue", "logprob": -1.0}],
        {"tokens": ["red", "blue"], "token_logprobs": [-0.5, -1.0]},
        [-0.5, -1.0],
        [
            {"token": f"token_id:{WORDS.index(word)}", "logprob": value}
            for word, value in (("red", -0.5), ("blue", -1))
        ],
    ],
    ids=["chat", "list", "completion", "numbers", "ids"],
)
def test_forms_of_records(tokenizer: Any, logprobs: Any) -> None:
    episode = replayed(tokenizer, USER, answer("red blue", logprobs))
    assert marked(episode) == "red blue"
    assert [one for one in episode.old_logps if one] == [-0.5, -1.0]


def test_a_recorded_end_is_trained_and_not_repeated(tokenizer: Any) -> None:
    ended = answer("red", [{"token": "red", "logprob": -0.5}, {"token": "<end>", "logprob": -0.1}])
    episode = replayed(tokenizer, USER, ended, TOOL, said("blue"))
    assert words(episode.input_ids[:8]) == f"<user> a <end> <assistant> red <end> {NO_WORD} b"
    assert marked(episode) == "red <end> blue"


def test_only_an_end_may_be_said(tokenizer: Any) -> None:
    episode = replayed(tokenizer, USER, answer("", [{"token": "<end>", "logprob": -0.1}]))
    assert marked(episode) == "<end>"
    assert words(episode.input_ids) == "<user> a <end> <assistant> <end>"


def test_messages_without_records_are_read_not_trained(tokenizer: Any) -> None:
    episode = replayed(tokenizer, USER, answer("red", {}), USER, said("blue"))
    assert words(episode.input_ids[4:6]) == "red <end>"
    assert marked(episode) == "blue"


def test_roles_that_templates_do_not_know(tokenizer: Any) -> None:
    episode = replayed(tokenizer, other(EpisodeItemRole.ENVIRONMENT, "a"), said("red"))
    assert words(episode.input_ids[:1]) == "<user>"
    episode = replayed(tokenizer, USER, said("red"), other(EpisodeItemRole.FUNCTION, "b"), said("red"))
    assert words(episode.input_ids[6:7]) == NO_WORD


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([USER], "no_logprobs"),
        ([USER, answer("red", {})], "no_logprobs"),
        ([said("red")], "empty_prompt"),
        ([USER, answer("red blue", [-0.1])], "logprobs_mismatch"),
        ([USER, answer("red", [{"token": "blue", "logprob": -0.1}])], "logprobs_mismatch"),
        ([USER, answer("red", [{"token": "token_id:999", "logprob": -0.1}])], "logprobs_mismatch"),
        ([USER, answer("red", [{"token": "token_id:x", "logprob": -0.1}])], "logprobs_mismatch"),
        ([USER, answer("red", [{"token": "red"}])], "bad_logprobs"),
        ([USER, answer("red", [{"token": "red", "logprob": -9999.0}])], "bad_logprobs"),
        ([USER, answer("red", [{"token": "red", "logprob": 0.5}])], "bad_logprobs"),
        ([USER, answer("red", [True])], "bad_logprobs"),
        ([USER, answer("red", "red")], "bad_logprobs"),
        ([USER, answer("red", {"tokens": ["red", "blue"], "token_logprobs": [-0.1]})], "bad_logprobs"),
    ],
)
def test_why_an_episode_is_left_out(tokenizer: Any, items: list[EpisodeItem], reason: str) -> None:
    assert replay(row(*items), tokenizer, None, 1.0) == reason


def test_long_episodes_are_cut_and_left_out_when_nothing_said_is_left(tokenizer: Any) -> None:
    cut = replayed(tokenizer, USER, said("red"), TOOL, said("blue"), limit=9)
    assert (marked(cut), cut.tokens, len(cut.old_logps)) == ("red", 9, 9)
    assert replay(row(USER, said("red")), tokenizer, 4, 1.0) == "too_long"


def test_a_demonstration_is_all_that_the_assistant_said_with_its_ends(tokenizer: Any) -> None:
    shown = demonstrate(row(USER, said("red"), TOOL, answer("blue", {}), USER), tokenizer, None)
    assert isinstance(shown, Marked)
    assert marked(shown) == "red <end> blue <end>"
    assert demonstrate(row(USER), tokenizer, None) == "empty_response"
    assert demonstrate(row(USER, said("red")), tokenizer, 4) == "too_long"


def test_templates_that_rewrite_what_was_said(tokenizer: Any) -> None:
    rewriting = (
        "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] if loop.last else '?' }} <end> {% endfor %}"
    )
    before = tokenizer.chat_template
    try:
        tokenizer.chat_template = rewriting + "{% if add_generation_prompt %}<assistant>{% endif %}"
        found = replay(row(USER, said("red"), TOOL, said("blue")), tokenizer, None, 1.0)
        tokenizer.chat_template = "{{ raise_exception('no') }}"
        refused = replay(row(USER, said("red")), tokenizer, None, 1.0)
        tokenizer.chat_template = None
        plain = replay(row(USER, said("red")), tokenizer, None, 1.0)
    finally:
        tokenizer.chat_template = before
    assert found == "rewritten_by_chat_template"
    assert refused == "refused_by_chat_template"
    assert plain == "no_chat_template"


def test_nothing_recorded_is_no_token() -> None:
    empty: list[Any] = [None, {}, [], {"content": None}]
    assert [read_logprobs(nothing) for nothing in empty] == [[], [], [], []]
    assert read_logprobs([0.0005]) == [Token(None, 0.0005)]
    with pytest.raises(Unusable, match="bad_logprobs"):
        read_logprobs({"content": 5})
