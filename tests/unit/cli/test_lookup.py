"""Names as people type them."""

from __future__ import annotations

import pytest

from tunestream.cli.errors import Failure
from tunestream.cli.lookup import by_name, no_such_run

KNOWN = {"abcd": 1, "abef": 2, "ab": 3, "xyz": 4}


@pytest.mark.parametrize(("name", "found"), [("abcd", 1), ("abc", 1), ("x", 4), ("ab", 3)])
def test_a_name_is_whole_or_a_beginning_of_one(name: str, found: int) -> None:
    assert by_name(KNOWN, name, kind="job", remedy="list them") == found


@pytest.mark.parametrize(
    ("name", "problem"), [("nothing", "no job nothing"), ("a", "3 jobs begin with a"), ("bcd", "no job bcd")]
)
def test_other_names_are_failures_with_a_remedy(name: str, problem: str) -> None:
    with pytest.raises(Failure, match=f"^{problem}$") as raised:
        by_name(KNOWN, name, kind="job", remedy="list them")
    assert raised.value.remedy == "list them"


@pytest.mark.parametrize("name", ["TIC-TAC-TOE", "tictactoe", "tic-tac-to"])
def test_runs_whose_names_are_near_are_named(name: str) -> None:
    failure = no_such_run(name, {"tic-tac-toe", "chess"})
    assert failure.remedy.startswith("Did you mean tic-tac-toe? ")
