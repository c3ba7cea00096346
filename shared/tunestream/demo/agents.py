"""Agents that play tic-tac-toe through the policy server and publish what they could have done.

Each game starts from a uniformly drawn training board with the policy to move. At each turn the agent
draws four different answers, publishes them with their scores, and plays the first. Turns on held-out
boards are played but never published. An illegal answer is replaced by a random legal move.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Final

from tunestream.demo import game
from tunestream.demo.policy_client import Policy, PolicyClient, draw_distinct
from tunestream.sdk import TTCPublisher

__all__ = ["CANDIDATES", "Arena", "Throttle", "play_forever"]

CANDIDATES: Final = 4
MIN_SCORE_DIFF: Final = 0.01


@dataclass(slots=True)
class Throttle:
    """Back-pressure: agents start games while few published pairs wait for training.

    Attributes:
        most_waiting: pairs published and not yet trained at which no game is started.
        most_published: pairs at which no game is started any more; None for no end.
        published: pairs, one for each published turn whose scores differ.
        trained: pairs in windows whose job has ended.
    """

    most_waiting: int
    most_published: int | None = None
    published: int = 0
    trained: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_open(self) -> bool:
        """Whether a game may start."""
        ended = self.most_published is not None and self.published >= self.most_published
        return not ended and self.published - self.trained < self.most_waiting

    def publish(self) -> None:
        """Count one published pair."""
        self.published += 1

    def train(self, pairs: int) -> None:
        """Count the pairs of a window whose job has ended."""
        self.trained += pairs
        self._changed.set()

    async def wait_open(self) -> None:
        """Wait until a game may start; only a trained window can change that."""
        while not self.is_open:
            self._changed.clear()
            await self._changed.wait()


@dataclass(slots=True)
class Arena:
    """What all agents of one run share, and what they count.

    Attributes:
        run_id: the run that they publish to.
        turns: published turns.
        held_out_turns: turns played on held-out boards, not published.
        illegal: turns whose first answer was no legal move.
        games: finished games.
    """

    run_id: str
    client: PolicyClient
    policy: Policy
    publisher: TTCPublisher
    throttle: Throttle
    turns: int = 0
    held_out_turns: int = 0
    illegal: int = 0
    games: int = 0


async def play_forever(arena: Arena, *, agents: int, seed: int) -> None:
    """Let ``agents`` play game after game, at once, until cancelled."""
    async with asyncio.TaskGroup() as group:
        for number in range(agents):
            group.create_task(_play_games(arena, number, Random(f"{seed}/{number}")))  # noqa: S311


async def _play_games(arena: Arena, agent: int, rng: Random) -> None:
    for number in count():
        await arena.throttle.wait_open()
        await _play_game(arena, f"agent-{agent}/game-{number}", rng)


async def _play_game(arena: Arena, example_id: str, rng: Random) -> None:
    board = rng.choice(game.training_boards())
    while not game.is_over(board):
        after = game.play(board, await _decide(arena, example_id, board, rng))
        board = after if game.is_over(after) else game.play(after, rng.choice(game.legal_moves(after)))
    await arena.publisher.end_example(arena.run_id, example_id)
    arena.games += 1


async def _decide(arena: Arena, example_id: str, board: str, rng: Random) -> int:
    policy = Policy(arena.policy.model, arena.policy.version)  # it may be swapped while we wait
    distribution = await arena.client.distribution(policy.model, game.prompt(board))
    answers = draw_distinct(distribution, CANDIDATES, rng)
    if board in game.held_out_boards():
        arena.held_out_turns += 1
    else:
        await _publish(arena, example_id, board, answers, policy.version)
    cell = game.parse_move(board, answers[0])
    if cell is None:
        arena.illegal += 1
        return rng.choice(game.legal_moves(board))
    return cell


async def _publish(
    arena: Arena, example_id: str, board: str, answers: list[str], version: str | None
) -> None:
    scores = [game.reward(board, answer) for answer in answers]
    async with arena.publisher.turn(
        arena.run_id, example_id, prompt=game.prompt(board), policy_version=version
    ) as turn:
        for index, (answer, score) in enumerate(zip(answers, scores, strict=True)):
            turn.candidate(answer, score=score, index=index)
    arena.turns += 1
    if max(scores) - min(scores) >= MIN_SCORE_DIFF:
        arena.throttle.publish()
