"""How strong a served version is: optimal moves on test boards, and games against random.

Everything is asked through the policy server, so what is measured is what is served.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from tunestream.demo import game
from tunestream.demo.policy_client import PolicyClient
from tunestream.domain.models.evaluation import Interval, clustered_mean

__all__ = ["GAMES", "Outcomes", "Strength", "evaluate", "paired_difference", "play_random"]

BATCH: Final = 128  # boards in one request
GAMES: Final = 400

Result = Literal["win", "draw", "loss", "illegal"]


@dataclass(frozen=True, slots=True)
class Strength:
    """One version on the test boards, in their sorted order; ``number`` 0 is the base model."""

    number: int
    version: str | None
    optimal: tuple[bool, ...]
    illegal: int

    @property
    def interval(self) -> Interval:
        """The rate of optimal moves."""
        return _clustered([float(hit) for hit in self.optimal])


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Shares of games against a random opponent; an illegal move loses."""

    win: float
    draw: float
    loss: float
    illegal: float


async def evaluate(client: PolicyClient, model: str, *, number: int, version: str | None) -> Strength:
    """Ask for the likeliest move, over the whole vocabulary, on every test board."""
    boards = _test_boards()
    moves = await _moves(client, model, boards)
    hits = tuple(move in game.optimal_moves(board) for board, move in zip(boards, moves, strict=True))
    return Strength(number, version, hits, moves.count(None))


def paired_difference(first: Strength, last: Strength) -> Interval:
    """Return the gain in the rate of optimal moves, board by board.

    Boards that are rotations or reflections of one another count as one cluster, since the policy may
    fail on all of them for one reason.
    """
    pairs = zip(last.optimal, first.optimal, strict=True)
    return _clustered([float(after) - float(before) for after, before in pairs])


async def play_random(client: PolicyClient, model: str, *, seed: int, games: int = GAMES) -> Outcomes:
    """Play from the empty board, beginning in every second game, greedily, all games side by side."""
    rng = Random(f"outcomes/{seed}")  # noqa: S311
    boards = [game.EMPTY_BOARD] * games
    boards[1::2] = [_random_reply(board, rng) for board in boards[1::2]]
    results: Counter[Result] = Counter()
    while boards:
        moves = await _moves(client, model, boards)
        steps = [_step(board, move, rng) for board, move in zip(boards, moves, strict=True)]
        results.update(result for result, _ in steps if result is not None)
        boards = [board for result, board in steps if result is None]
    shares = {name: results[name] / games for name in ("win", "draw", "loss", "illegal")}
    return Outcomes(**shares)


def _test_boards() -> list[str]:
    return sorted(game.test_boards())


async def _moves(client: PolicyClient, model: str, boards: list[str]) -> list[int | None]:
    """Return the greedy move on each board, None where it is illegal."""
    moves: list[int | None] = []
    for start in range(0, len(boards), BATCH):
        batch = boards[start : start + BATCH]
        answers = await client.greedy(model, [game.prompt(board) for board in batch])
        moves += [game.parse_move(board, answer) for board, answer in zip(batch, answers, strict=True)]
    return moves


def _step(board: str, move: int | None, rng: Random) -> tuple[Result | None, str]:
    if move is None:
        return "illegal", board
    board = game.play(board, move)
    if game.is_over(board):
        return "win" if game.is_lost(board) else "draw", board
    board = _random_reply(board, rng)
    if game.is_over(board):
        return "loss" if game.is_lost(board) else "draw", board
    return None, board


def _random_reply(board: str, rng: Random) -> str:
    return game.play(board, rng.choice(game.legal_moves(board)))


def _clustered(values: list[float]) -> Interval:
    return clustered_mean(values, [game.canonical(board) for board in _test_boards()])
