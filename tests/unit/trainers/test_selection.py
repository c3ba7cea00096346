from __future__ import annotations

from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunestream.events.dataset import EpisodeRow, PreferenceRow, ResponseRow
from tunestream.events.messages import OpenAIMessage
from tunestream.events.trajectories import EpisodeItem, EpisodeItemRole
from tunestream.trainers.trl.examples import Preference, Response
from tunestream.trainers.trl.selection import advantages, best_of, contrasts, unpaired


def pair(prompt: str | list[OpenAIMessage], chosen: str, score: float) -> PreferenceRow:
    return PreferenceRow(
        group_id="g",
        example_id="e",
        turn_id="t",
        prompt=prompt,
        chosen=chosen,
        rejected="worst",
        chosen_score=score,
        rejected_score=-1.0,
        reward=score,
    )


def episode(group: str, reward: float) -> EpisodeRow:
    items = [EpisodeItem(role=EpisodeItemRole.USER, content=str(reward))]
    return EpisodeRow(group_id=group, example_id=group, items=items, reward=reward)


def test_the_best_response_to_a_prompt_stands_where_its_prompt_came_first() -> None:
    rows = [pair("a", "fair", 0.5), pair("b", "only", 0.1), pair("a", "best", 0.9), pair("a", "late", 0.9)]
    assert best_of(rows) == [
        ResponseRow(prompt="a", response="best"),
        ResponseRow(prompt="b", response="only"),
    ]


def test_prompts_of_messages_are_prompts_too() -> None:
    def asked(text: str) -> list[OpenAIMessage]:
        return [OpenAIMessage(role="user", content=text)]

    best = best_of([pair(asked("a"), "fair", 0.0), pair(asked("a"), "best", 1.0), pair("a", "text", 0.5)])
    assert [row.response for row in best if isinstance(row, ResponseRow)] == ["best", "text"]


def test_given_responses_and_unreadable_lines_are_all_kept() -> None:
    given_ = ResponseRow(prompt="a", response="x")
    assert best_of([given_, None, given_, None]) == [given_, None, given_, None]


def test_the_best_episode_of_a_group() -> None:
    rows = [episode("a", 0.1), episode("b", 0.0), episode("a", 0.7), episode("a", 0.7)]
    assert best_of(rows) == [rows[2], rows[1]]
    assert best_of(rows)[0] is rows[2]


def test_every_response_is_desirable_or_not_once() -> None:
    pairs = [Preference([1], [2], [3]), Preference([1], [2], [4]), Preference([1], [4], [3])]
    found = unpaired(pairs, seed=3)
    assert sorted(found) == [
        Response([1], [2], True),
        Response([1], [3], False),
        Response([1], [4], False),
        Response([1], [4], True),
    ]
    assert unpaired(pairs, seed=3) == found
    assert any(unpaired(pairs, seed=seed) != found for seed in range(5))


def test_labelled_responses_are_what_they_are() -> None:
    given_ = [Response([1], [2], True), Response([1], [3], False), Response([1], [2], True)]
    assert sorted(unpaired([*given_, Preference([1], [2], [4])], seed=0)) == [
        Response([1], [2], True),
        Response([1], [3], False),
        Response([1], [4], False),
    ]


rewards = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=6)


@given(groups=st.lists(rewards, max_size=5))
def test_advantages_are_standard_scores_of_their_group(groups: list[list[float]]) -> None:
    rows = [episode(f"g{name}", reward) for name, group in enumerate(groups) for reward in group]
    found = advantages(rows, "group")
    centred = advantages(rows, "none")
    for name, group in enumerate(groups):
        if len(set(group)) == 1:
            assert f"g{name}" not in found
            continue
        scores = [found[f"g{name}"][reward] for reward in group]
        assert fmean(scores) == pytest.approx(0.0, abs=1e-9)
        assert pstdev(scores) == pytest.approx(1.0)
        differences = [one - fmean(group) for one in group]
        assert [centred[f"g{name}"][one] for one in group] == pytest.approx(differences)


def test_contrasts_are_the_ends_of_unequal_groups() -> None:
    rows = [episode("a", 0.5), episode("b", 1.0), episode("a", -1.0), episode("b", 1.0), episode("a", 2.0)]
    assert contrasts(rows) == [(rows[4], rows[2])]
