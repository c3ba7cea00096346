"""Rows of files, and what distinguishes one content from another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunestream.config.experiment.experiment import DataConfig
from tunestream.experiments.sources import fingerprint, read_rows
from tunestream.experiments.stages import StageFailed


def data(path: Path | str, **settings: Any) -> DataConfig:
    return DataConfig(path=str(path), prompt="{q}", prompt_stub="{a}", **settings)


def test_rows_are_read_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"q": 1}\n\n{"q": 2}\nbroken')
    rows = read_rows(data(path))
    assert [next(rows), next(rows)] == [{"q": 1}, {"q": 2}]
    with pytest.raises(StageFailed, match=r"rows.jsonl:4 is not JSON"):
        next(rows)


def test_the_setting_outranks_the_ending(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text("q,a\n1,2\n")
    assert list(read_rows(data(path, file_type="csv"))) == [{"q": "1", "a": "2"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", "q,a\n1,2\n"), ("a.jsonl", '{"q": "1", "a": "2"}'), ("a.json", '[{"q":"1","a":"2"}]')],
)
def test_a_byte_order_mark_is_no_part_of_the_data(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8-sig")
    assert list(read_rows(data(path))) == [{"q": "1", "a": "2"}]


def test_text_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"q": "\xe4"}\n')
    with pytest.raises(StageFailed, match="is not UTF-8 text"):
        list(read_rows(data(path)))


def test_json_lines_in_a_json_file_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('{"q": 1}\n{"q": 2}\n')
    with pytest.raises(StageFailed, match=r"is data\.file_type jsonl meant"):
        list(read_rows(data(path)))


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    for name, content in (("one.csv", "q\n1\n"), ("two.csv", "q\n1\n"), ("other.csv", "q\n2\n")):
        (tmp_path / name).write_text(content)
    one, two, other = (fingerprint(data(tmp_path / f"{name}.csv")) for name in ("one", "two", "other"))
    assert one == two != other


def test_a_folder_is_known_by_its_data_files(tmp_path: Path) -> None:
    (tmp_path / "part.jsonl").write_text("{}")
    before = fingerprint(data(tmp_path))
    (tmp_path / "README.md").write_text("words")
    assert fingerprint(data(tmp_path)) == before
    (tmp_path / "part.jsonl").write_text("{ }")
    assert fingerprint(data(tmp_path)) != before


def test_a_dataset_of_the_hub_is_known_by_name_and_revision() -> None:
    first, second = (fingerprint(data("org/name", revision=revision)) for revision in ("a", "b"))
    assert first == {"name": "org/name", "revision": "a"}
    assert first != second
