from __future__ import annotations

import asyncio
import math
from collections import Counter
from random import Random

import pytest

from tunestream.demo.agents import Throttle
from tunestream.demo.policy_client import draw_distinct

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
    throttle.publish()
    await asyncio.wait_for(throttle.wait_open(), 5)
    throttle.publish()
    waiter = asyncio.create_task(throttle.wait_open())
    await asyncio.sleep(0)
    assert not waiter.done()
    throttle.train(1)
    await asyncio.wait_for(waiter, 5)


async def test_no_game_starts_once_enough_is_published() -> None:
    throttle = Throttle(most_waiting=10, most_published=1)
    assert throttle.is_open
    throttle.publish()
    throttle.train(1)
    assert not throttle.is_open
