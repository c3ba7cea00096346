"""Rows of files, and what distinguishes one content from another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunestream.config.experiment.data import DataConfig
from tunestream.experiments.sources import fingerprint, read_data
from tunestream.experiments.stages import StageFailed


def data(path: Path | str, **settings: Any) -> DataConfig:
    return DataConfig(path=str(path), prompt="{q}", prompt_stub="{a}", **settings)


def values(data: DataConfig) -> list[dict[str, Any]]:
    return [row.values for row in read_data(data)]


def test_the_setting_outranks_the_ending(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text("q,a\n1,2\n")
    assert values(data(path, file_type="csv")) == [{"q": "1", "a": "2"}]


def test_an_unknown_ending_asks_for_the_type_and_no_hub(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text("q,a\n1,2\n")
    with pytest.raises(StageFailed, match=r"set data\.file_type to one of jsonl, json, csv, tsv, parquet"):
        values(data(path))


@pytest.mark.parametrize("name", ["org/name", "rows.txt", "rows.csv"])
def test_a_name_asks_the_hub_only_when_it_should(name: str) -> None:
    for ask in (fingerprint, values):
        with pytest.raises(StageFailed, match=r"for a dataset of the hub write data\.file_type: huggingface"):
            ask(data(name))


def test_a_fault_of_a_file_is_the_stages(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"q": 1}\n\n{"q": 2}\nbroken')
    rows = read_data(data(path))
    assert [next(rows).values, next(rows).values] == [{"q": 1}, {"q": 2}]
    with pytest.raises(StageFailed, match=r"rows.jsonl:4: is not JSON"):
        next(rows)


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
    first, second = (
        fingerprint(data("org/name", revision=revision, file_type="huggingface")) for revision in ("a", "b")
    )
    assert first == {"name": "org/name", "revision": "a"}
    assert first != second
