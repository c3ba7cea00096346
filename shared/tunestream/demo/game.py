"""Tic-tac-toe as the policy sees it: boards, scores, hints, prompts and the test boards.

A board is a string of nine characters, row by row: ``m`` (me), ``o`` (the opponent) or ``.``
(empty), always seen from the side to move. The view carries the player, so one memo serves both.
Cells count from 0 here and from 1 in prompts and answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from typing import Final

__all__ = [
    "EMPTY_BOARD",
    "ILLEGAL_SCORE",
    "boards",
    "canonical",
    "is_lost",
    "is_over",
    "legal_moves",
    "move_scores",
    "optimal_moves",
    "parse_move",
    "play",
    "prompt",
    "reward",
    "test_boards",
    "training_boards",
]

EMPTY_BOARD: Final = "." * 9
ILLEGAL_SCORE: Final = -20.0
WIN_SCORE: Final = 10

_LINES: Final = (
    (0, 1, 2), (3, 4, 5), (6, 7, 8),
    (0, 3, 6), (1, 4, 7), (2, 5, 8),
    (0, 4, 8), (2, 4, 6),
)  # fmt: skip
_SWAP: Final = str.maketrans("mo", "om")
_QUARTER_TURN: Final = (6, 3, 0, 7, 4, 1, 8, 5, 2)
_MIRROR: Final = (2, 1, 0, 5, 4, 3, 8, 7, 6)

# 15 % of the 627 symmetry classes. The salt is one whose classes hold 649 boards on which a
# random legal move is optimal as often as on all boards (49.5 % here, 49.4 % there).
_HELD_OUT_CLASSES: Final = 94
_HELD_OUT_SALT: Final = "2227"


def legal_moves(board: str) -> list[int]:
    """Return the empty cells in order."""
    return [cell for cell, mark in enumerate(board) if mark == "."]


def play(board: str, cell: int) -> str:
    """Place my mark and return the board as the other side sees it.

    Raises:
        ValueError: when the cell is taken.
    """
    if board[cell] != ".":
        raise ValueError(f"cell {cell + 1} of {board!r} is taken")
    return f"{board[:cell]}m{board[cell + 1 :]}".translate(_SWAP)


def is_lost(board: str) -> bool:
    """Return whether the other side has three in a row."""
    return any(all(board[cell] == "o" for cell in line) for line in _LINES)


def is_over(board: str) -> bool:
    """Return whether the game has ended: the side to move has lost, or the board is full."""
    return is_lost(board) or "." not in board


@cache
def _value(board: str) -> int:
    if is_lost(board):
        return -WIN_SCORE
    return max((_score(board, cell) for cell in legal_moves(board)), default=0)


def _score(board: str, cell: int) -> int:
    value = -_value(play(board, cell))
    # One ply further away is worth one less: quick wins and late losses are better.
    return value - (value > 0) + (value < 0)


def move_scores(board: str) -> dict[int, int]:
    """Return the depth-aware minimax score of each legal move: 9 wins at once, 0 draws, -8 loses next."""
    return {cell: _score(board, cell) for cell in legal_moves(board)}


def optimal_moves(board: str) -> frozenset[int]:
    """Return the legal moves with the best score."""
    scores = move_scores(board)
    best = max(scores.values())
    return frozenset(cell for cell, score in scores.items() if score == best)


def parse_move(board: str, answer: str) -> int | None:
    """Read an answer ("1" to "9") as a legal cell; None when it is none."""
    text = answer.strip()
    if len(text) != 1 or text not in "123456789":
        return None
    cell = int(text) - 1
    return cell if board[cell] == "." else None


def reward(board: str, answer: str) -> float:
    """Score an answer: the move's minimax score, or ``ILLEGAL_SCORE``."""
    cell = parse_move(board, answer)
    return ILLEGAL_SCORE if cell is None else float(_score(board, cell))


def _completing(board: str, mark: str) -> str:
    for cell in legal_moves(board):
        for line in _LINES:
            if cell in line and sum(board[other] == mark for other in line) == 2:
                return str(cell + 1)
    return "-"


def prompt(board: str) -> str:
    """Describe the board: an empty cell by its digit, then the first winning and blocking cell.

    For example ``me 2 op / 4 5 6 / 7 8 op ; win - block 6``.
    """
    names = {"m": "me", "o": "op"}
    cells = [names.get(mark, str(cell + 1)) for cell, mark in enumerate(board)]
    rows = " / ".join(" ".join(cells[start : start + 3]) for start in (0, 3, 6))
    return f"{rows} ; win {_completing(board, 'm')} block {_completing(board, 'o')}"


def _symmetries(board: str) -> Iterator[str]:
    for _ in range(4):
        board = "".join(board[cell] for cell in _QUARTER_TURN)
        yield board
        yield "".join(board[cell] for cell in _MIRROR)


def canonical(board: str) -> str:
    """Name a board's symmetry class: the smallest of its rotations and reflections."""
    return min(_symmetries(board))


@cache
def boards() -> tuple[str, ...]:
    """Return every board reachable from the empty one at which a move is to be made, sorted (4,520)."""
    seen: set[str] = set()
    waiting = [EMPTY_BOARD]
    while waiting:
        board = waiting.pop()
        if board in seen or is_over(board):
            continue
        seen.add(board)
        waiting.extend(play(board, cell) for cell in legal_moves(board))
    return tuple(sorted(seen))


@cache
def test_boards() -> frozenset[str]:
    """Return the 649 boards of the symmetry classes that are set apart; the same ones for every seed."""

    def rank(name: str) -> str:
        return sha256(f"{_HELD_OUT_SALT}:{name}".encode()).hexdigest()

    classes = sorted({canonical(board) for board in boards()}, key=rank)
    chosen = frozenset(classes[:_HELD_OUT_CLASSES])
    return frozenset(board for board in boards() if canonical(board) in chosen)


@cache
def training_boards() -> tuple[str, ...]:
    """Return the boards that may be published, sorted (3,871)."""
    return tuple(board for board in boards() if board not in test_boards())
