from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunestream.demo import game

ALL_BOARDS = st.sampled_from(game.boards())
WINNING_LINES = ["012", "345", "678", "036", "147", "258", "048", "246"]


def has_line(board: str, mark: str) -> bool:
    return any(all(board[int(cell)] == mark for cell in line) for line in WINNING_LINES)


def brute_force(board: str, cell: int) -> int:
    """The score of a move by exhaustive search on an absolute board, without memo or change of view."""

    def search(cells: list[str], mover: str, depth: int) -> int:
        board = "".join(cells)
        if has_line(board, "m"):
            return 10 - depth
        if has_line(board, "o"):
            return depth - 10
        values = []
        for index, mark in enumerate(board):
            if mark == ".":
                cells[index] = mover
                values.append(search(cells, "o" if mover == "m" else "m", depth + 1))
                cells[index] = "."
        if not values:
            return 0
        return max(values) if mover == "m" else min(values)

    cells = list(board)
    cells[cell] = "m"
    return search(cells, "o", 1)


@given(ALL_BOARDS.filter(lambda board: board.count(".") <= 6))
def test_scores_are_those_of_an_exhaustive_search(board: str) -> None:
    assert game.move_scores(board) == {cell: brute_force(board, cell) for cell in game.legal_moves(board)}


def test_the_empty_board_is_a_draw_wherever_one_starts() -> None:
    assert set(game.move_scores(game.EMPTY_BOARD).values()) == {0}


@given(ALL_BOARDS)
def test_boards_are_those_of_a_running_game_with_either_side_to_move(board: str) -> None:
    assert not has_line(board, "m")
    assert not has_line(board, "o")
    assert board.count("o") - board.count("m") in {0, 1}
    assert "." in board


def test_there_are_4520_boards_in_627_classes() -> None:
    assert len(game.boards()) == 4520
    assert len({game.canonical(board) for board in game.boards()}) == 627


def test_649_boards_of_15_per_cent_of_the_classes_are_set_apart() -> None:
    boards = game.test_boards()
    classes = {game.canonical(board) for board in boards}
    assert len(boards) == 649
    assert len(classes) == round(0.15 * 627)
    assert len(game.training_boards()) == 4520 - 649
    assert classes.isdisjoint(game.canonical(board) for board in game.training_boards())


def test_prompts_tell_boards_apart() -> None:
    """Hence a published prompt is a test prompt exactly when its board is a test board."""
    assert max(Counter(game.prompt(board) for board in game.boards()).values()) == 1


@given(ALL_BOARDS, st.booleans())
def test_a_turned_or_mirrored_board_is_of_the_same_class(board: str, mirror: bool) -> None:
    turned = "".join(board[3 * (2 - column) + row] for row in range(3) for column in range(3))
    rows = [turned[start : start + 3] for start in (0, 3, 6)]
    other = "".join(row[::-1] for row in rows) if mirror else turned
    assert game.canonical(other) == game.canonical(board)
    assert sorted(game.move_scores(other).values()) == sorted(game.move_scores(board).values())


@given(ALL_BOARDS)
def test_rewards_agree_with_optimal_moves(board: str) -> None:
    rewards = {cell: game.reward(board, str(cell + 1)) for cell in range(9)}
    best = max(rewards.values())
    assert game.optimal_moves(board) == {cell for cell, value in rewards.items() if value == best}
    assert all((value == game.ILLEGAL_SCORE) == (board[cell] != ".") for cell, value in rewards.items())


@given(ALL_BOARDS, st.data())
def test_playing_changes_sides(board: str, data: st.DataObject) -> None:
    cell = data.draw(st.sampled_from(game.legal_moves(board)))
    after = game.play(board, cell)
    assert after.count("o") == board.count("m") + 1
    assert after.count("m") == board.count("o")
    assert game.is_lost(after) == has_line(after, "o")


def test_a_taken_cell_cannot_be_played() -> None:
    with pytest.raises(ValueError, match=r"cell 1 of .* is taken"):
        game.play("o........", 0)


def test_a_quick_win_is_better_than_a_late_one() -> None:
    scores = game.move_scores("mm.oo....")
    assert scores[2] == 9
    assert max(score for cell, score in scores.items() if cell != 2) < 9


@pytest.mark.parametrize(
    ("board", "text"),
    [
        ("m.o.....o", "me 2 op / 4 5 6 / 7 8 op ; win - block 6"),
        (".........", "1 2 3 / 4 5 6 / 7 8 9 ; win - block -"),
        ("mm.oo....", "me me 3 / op op 6 / 7 8 9 ; win 3 block 6"),
        ("om.mo.m..", "op me 3 / me op 6 / me 8 9 ; win - block 9"),
    ],
)
def test_the_prompt_shows_legal_cells_and_hints(board: str, text: str) -> None:
    assert game.prompt(board) == text


@pytest.mark.parametrize("answer", ["", "0", "10", "me", "1 2", "²", "1"])  # the last cell is taken
def test_an_answer_that_is_no_legal_digit_is_illegal(answer: str) -> None:
    assert game.parse_move("o........", answer) is None
    assert game.reward("o........", answer) == game.ILLEGAL_SCORE


def test_space_around_an_answer_is_forgiven() -> None:
    assert game.parse_move("o........", " 2\n") == 1
