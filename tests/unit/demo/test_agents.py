from __future__ import annotations

import asyncio
import math
from collections import Counter
from random import Random

import pytest

from tunestream.demo.agents import Throttle
from tunestream.demo.policy_client import Sample, draw_distinct
from tunestream.demo.publishing import publishing_of
from tunestream.demo.recipes import RECIPES
from tunestream.events.training import Objective

DISTRIBUTION = [(token, math.log(share)) for token, share in zip("5193", (0.6, 0.3, 0.07, 0.03), strict=True)]


def test_answers_are_distinct() -> None:
    rng = Random(0)
    for _ in range(200):
        answers = draw_distinct(DISTRIBUTION, 3, rng)
        assert len(answers) == len(set(answers)) == 3


def test_the_first_answer_is_a_plain_sample_and_the_second_one_of_those_left() -> None:
    rng, draws = Random(1), 20_000
    pairs = Counter(tuple(draw_distinct(DISTRIBUTION, 2, rng)) for _ in range(draws))
    first = Counter({token: sum(n for pair, n in pairs.items() if pair[0] == token) for token in "5193"})
    assert first["5"] / draws == pytest.approx(0.6, abs=0.015)
    assert first["3"] / draws == pytest.approx(0.03, abs=0.006)
    assert pairs["5", "1"] / draws == pytest.approx(0.6 * 0.3 / 0.4, abs=0.015)


def test_special_tokens_are_no_answers() -> None:
    assert draw_distinct([("<|end|>", -0.1), ("5", -3.0)], 4, Random(0)) == ["5"]


async def test_games_wait_while_too_many_pairs_are_untrained() -> None:
    throttle = Throttle(most_waiting=2)
    assert throttle.publish(1)
    await asyncio.wait_for(throttle.wait_open(), 90)
    assert throttle.publish(1)
    waiter = asyncio.create_task(throttle.wait_open())
    await asyncio.sleep(0)
    assert not waiter.done()
    throttle.train(1)
    await asyncio.wait_for(waiter, 90)


async def test_nothing_more_is_published_once_enough_is() -> None:
    throttle = Throttle(most_waiting=100, most_published=16)
    assert throttle.publish(8)
    assert throttle.is_open
    assert throttle.publish(8)
    throttle.train(16)
    assert not throttle.is_open
    assert not throttle.publish(8)
    assert throttle.published == 16


@pytest.mark.parametrize("objective", Objective)
def test_as_many_trajectories_are_announced_as_come_of_the_answers(objective: Objective) -> None:
    publishing = publishing_of(RECIPES[objective])
    board = "mm.oo...."
    different = [Sample("3"), Sample("9"), Sample("win"), Sample("1")]
    alike = [Sample("win"), Sample("1"), Sample("<|end|>"), Sample("-")]
    expected = (4, 4) if objective is Objective.GRPO else (1, 0)
    assert (publishing.trajectories(board, different), publishing.trajectories(board, alike)) == expected
