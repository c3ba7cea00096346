"""Agents that play tic-tac-toe through the policy server and publish what they could have done.

Each game starts from a uniformly drawn training board with the policy to move. At each turn the agent
draws several answers, publishes them with their scores, and plays the first. Turns on test boards
are played but never published. An illegal answer is replaced by a random legal move.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import count
from random import Random

from tunestream.demo import game
from tunestream.demo.policy_client import Policy, PolicyClient
from tunestream.demo.publishing import Decision, Publishing
from tunestream.sdk import TTCPublisher

__all__ = ["Arena", "Throttle", "play_forever"]


@dataclass(slots=True)
class Throttle:
    """Back-pressure: agents start games while few published trajectories wait for training.

    Attributes:
        most_waiting: trajectories published and not yet trained at which no game is started.
        most_published: trajectories at which nothing is published any more; None for no end.
        published: trajectories that come of what is published.
        trained: trajectories in windows whose job has ended.
    """

    most_waiting: int
    most_published: int | None = None
    published: int = 0
    trained: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_open(self) -> bool:
        """Whether a game may start."""
        return not self.is_ended and self.published - self.trained < self.most_waiting

    @property
    def is_ended(self) -> bool:
        """Whether enough is published."""
        return self.most_published is not None and self.published >= self.most_published

    def publish(self, trajectories: int) -> bool:
        """Count what is to be published, and return whether it may be: not once enough is published."""
        if self.is_ended:
            return False
        self.published += trajectories
        return True

    def train(self, trajectories: int) -> None:
        """Count those of a window whose job has ended."""
        self.trained += trajectories
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
        publishing: what they publish.
        turns: published turns.
        held_out_turns: turns played on test boards, not published.
        illegal: turns whose first answer was no legal move.
        games: finished games.
    """

    run_id: str
    client: PolicyClient
    policy: Policy
    publisher: TTCPublisher
    publishing: Publishing
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


async def _play_game(arena: Arena, game_id: str, rng: Random) -> None:
    board = rng.choice(game.training_boards())
    while not game.is_over(board):
        after = game.play(board, await _decide(arena, game_id, board, rng))
        board = after if game.is_over(after) else game.play(after, rng.choice(game.legal_moves(after)))
    await arena.publishing.end_game(arena.publisher, arena.run_id, game_id)
    arena.games += 1


async def _decide(arena: Arena, game_id: str, board: str, rng: Random) -> int:
    policy = Policy(arena.policy.model, arena.policy.version)  # it may be swapped while we wait
    answers = await arena.publishing.draw(arena.client, policy.model, board, rng)
    if board in game.test_boards():
        arena.held_out_turns += 1
    elif arena.throttle.publish(arena.publishing.trajectories(board, answers)):
        decision = Decision(arena.run_id, game_id, board, policy.version)
        await arena.publishing.publish(arena.publisher, decision, answers)
        arena.turns += 1
    cell = game.parse_move(board, answers[0].text)
    if cell is None:
        arena.illegal += 1
        return rng.choice(game.legal_moves(board))
    return cell
