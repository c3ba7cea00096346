"""Files of lines: read from anywhere, written whole or not at all."""

from __future__ import annotations

import gzip
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tunestream.cli.errors import Failure
from tunestream.cli.jsonl import read_lines, write_lines
from tunestream.rows.errors import RowError


def read(source: Path | str) -> list[bytes]:
    with read_lines(str(source)) as lines:
        return [line.rstrip(b"\n") for line in lines]


def test_lines_come_back(tmp_path: Path) -> None:
    write_lines(str(tmp_path / "rows.jsonl"), [b"1", b'{"a": "\xc3\xa4"}'])
    assert read(tmp_path / "rows.jsonl") == [b"1", b'{"a": "\xc3\xa4"}']


def test_gzip_is_unpacked_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "rows.gz").write_bytes(gzip.compress(b"1\n2\n", mtime=0))
    assert read(tmp_path / "rows.gz") == [b"1", b"2"]


@pytest.mark.parametrize("content", [b"1\n2\n", gzip.compress(b"1\n2\n" * 99, mtime=0)[:-9]])
def test_what_is_no_whole_gzip_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rows.gz").write_bytes(content)
    with pytest.raises(RowError, match=r"rows\.gz: is not a whole gzip file"):
        read(tmp_path / "rows.gz")


def test_a_dash_is_a_standard_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"1\n2\n")))
    monkeypatch.setattr("sys.stdout", SimpleNamespace(buffer=out))
    write_lines("-", read("-"))
    assert out.getvalue() == b"1\n2\n"


def test_a_file_stays_as_it_was_when_the_lines_break_off(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"new"
        raise ValueError("no more")

    target = tmp_path / "rows.jsonl"
    target.write_bytes(b"old\n")
    with pytest.raises(ValueError, match="no more"):
        write_lines(str(target), broken())
    assert target.read_bytes() == b"old\n"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_has_the_usual_rights(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_lines(str(tmp_path / "rows.jsonl"), [b"1"])
    finally:
        os.umask(before)
    assert (tmp_path / "rows.jsonl").stat().st_mode & 0o777 == 0o640


def test_a_folder_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="cannot be written: No such file or directory"):
        write_lines(str(tmp_path / "missing" / "rows.jsonl"), [b"1"])


def test_a_pipe_stays_a_pipe(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_lines(str(pipe), [b"1", b"2"])
    reader.join(90)
    assert got == [b"1\n2\n"]
    assert pipe.is_fifo()
