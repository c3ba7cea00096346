from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunestream.experiments.journal import Journal, read_lines
from tunestream.experiments.results import TestRow


def rows(count: int) -> list[TestRow]:
    return [TestRow(id=f"r{number}", prompt="größer?\n", ground_truth=str(number)) for number in range(count)]


def open_journal(path: Path) -> Journal[TestRow]:
    return Journal(path, TestRow, lambda row: row.id)


@given(cut=st.integers(min_value=0))
@settings(max_examples=40)
def test_a_file_torn_anywhere_goes_on_to_the_same_file(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("journal") / "rows.jsonl"
    with open_journal(path) as journal:
        journal.add(rows(5))
    whole = path.read_bytes()
    path.write_bytes(whole[: cut % (len(whole) + 1)])
    with open_journal(path) as journal:
        kept = list(journal.done)
        assert kept == [row.id for row in rows(len(kept))]
        journal.add(rows(5))
    assert path.read_bytes() == whole
    assert read_lines(path, TestRow) == rows(5)


def test_what_follows_a_broken_line_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with open_journal(path) as journal:
        journal.add(rows(3))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\0\0\0\n" + lines[2])
    with open_journal(path) as journal:
        assert list(journal.done) == ["r0"]
    assert path.read_bytes() == lines[0]


def test_a_row_is_written_once(tmp_path: Path) -> None:
    with open_journal(tmp_path / "rows.jsonl") as journal:
        journal.add(rows(2))
        journal.add(rows(2))
    assert len(read_lines(tmp_path / "rows.jsonl", TestRow)) == 2
