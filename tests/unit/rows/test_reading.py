"""Files of every type, however they are encoded, give the same rows; every fault names its place."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunestream.rows.errors import RowError
from tunestream.rows.opening import FileType, type_of_file
from tunestream.rows.reading import open_lines, read_rows

ROWS = [{"q": "a, b", "a": "ä"}, {"q": 'say "x"\nthen', "a": "🙂"}, {"q": " ", "a": ""}]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS)
UNICODE = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
CSV = 'q,a\n"a, b",ä\n"say ""x""\nthen",🙂\n" ",\n'
SETTING = "--file-type"
MANY = gzip.compress(b'{"q": "%d"}\n' % 7 * 50_000, mtime=0)

Write = Callable[[str, "bytes | str"], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, content: bytes | str) -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return written


def rows(path: str, kind: FileType | None = None) -> list[dict[str, Any]]:
    return [row.values for row in read_rows(path, kind or type_of_file(path, SETTING))]


def lines(path: str) -> list[bytes]:
    with open_lines(path, type_of_file(path, SETTING)) as opened:
        return list(opened)


def fault(path: str, kind: FileType | None = None) -> str:
    with pytest.raises(RowError) as caught:
        rows(path, kind)
    return str(caught.value)


CONTENTS = [
    ("a.jsonl", JSONL),
    ("a.ndjson", JSONL.replace("\n", "\n\n")),
    ("a.JSONL", UNICODE),
    ("a.json", json.dumps(ROWS)),
    ("a.json", json.dumps(ROWS, indent=2, ensure_ascii=False)),
    ("a.json", json.dumps({"version": 1.5, "about": {"x": [1]}, "data": ROWS, "more": None})),
    ("a.csv", CSV),
    ("a.tsv", CSV.replace(",", "\t").replace("a\t b", "a, b")),
]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["bare", "bom"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize(("name", "content"), CONTENTS)
def test_every_type_gives_the_same_rows(
    write: Write, name: str, content: str, packed: bool, mark: bytes
) -> None:
    raw = mark + content.encode()
    half = len(raw) // 2  # a gzip file may have several members, cut anywhere
    path = (
        write(f"{name}.gz", gzip.compress(raw[:half]) + gzip.compress(raw[half:]))
        if packed
        else write(name, raw)
    )
    assert rows(path) == ROWS


@pytest.mark.parametrize(("name", "content"), CONTENTS)
def test_lines_may_end_as_on_windows(write: Write, name: str, content: str) -> None:
    found = rows(write(name, content.replace("\n", "\r\n")))
    assert [row["a"] for row in found] == [row["a"] for row in ROWS]


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> str:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def test_parquet_gives_the_same_rows(tmp_path: Path) -> None:
    assert rows(write_parquet(tmp_path / "a.parquet", ROWS)) == ROWS


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", b""), ("a.json", b""), ("a.json", b"[]"), ("a.json", b'{"data": []}'), ("a.csv", b"")],
)
def test_a_file_may_hold_nothing(write: Write, name: str, content: bytes) -> None:
    assert rows(write(name, content)) == []


def test_an_ending_may_have_capitals(write: Write) -> None:
    path = write("A.CSV.GZ", gzip.compress(CSV.encode()))
    assert [row.values for row in read_rows(path, type_of_file(path, SETTING))] == ROWS


def test_gzip_is_known_by_its_content_too(write: Write) -> None:
    assert rows(write("a.jsonl", gzip.compress(JSONL.encode()))) == ROWS


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", '{"q": 1}\n{"q"', ":2: is not JSON: Expecting ':' delimiter at column 5"),
        ("a.jsonl", '{"q": 1}\n\n[1]', ":3: is not an object of columns; is the type json meant?"),
        ("a.jsonl", '{"q": 1}\n{"q": 1, "q": 2}', ":2: q: is there twice in one object"),
        ("a.jsonl", b'{"q": 1}\n{"q": "\xe4"}', ":2: is not UTF-8 text: invalid continuation byte at byte 8"),
        ("a.jsonl", '{"q": ' + "[" * 200 + "]" * 200 + "}", ":1: q: is nested deeper than 100 levels"),
        ("a.jsonl", '{}\n{"q": ' + "[" * 10**5 + "]" * 10**5 + "}", ":2: is nested deeper than 100 levels"),
        ("a.json", "[" * 10**5 + "]" * 10**5, ":1: is nested deeper than 100 levels"),
        ("a.json", '[{"q": 1},\n{"q" 2}]', ":2: is not JSON: Expecting ':' delimiter"),
        ("a.json", '[{"q": 1},\n{"q": 2},\n]', ":3: is not JSON"),
        ("a.json", '[{"q": 1}\n', "is not JSON: the end stands where , or ] should"),
        ("a.json", '[{"q": "x', ":1: is not JSON: Unterminated string"),
        ("a.json", '[{"q": 1}, 2]', ": row 2: is not an object of columns; it is a number"),
        ("a.json", '{"q": 1}\n{"q": 2}', ":1: is one object without an array of rows; is the type jsonl"),
        ("a.json", '{"q": [1]}\n{"q": [2]}', "is not an object of columns"),
        ("a.json", '{"train": [{}], "test": [{}]}', ":1: holds two arrays, 'train' and 'test'"),
        ("a.json", "[]\n[]", ":2: goes on behind the end of the array"),
        ("a.json", "q,a\n1,2", ":1: is neither an array of objects nor an object with one"),
        ("a.json", b'[{"q": "\xe4"}]', ":1: is not UTF-8 text"),
        ("a.csv", 'q,a\n1,2\n3,"x\n4,5\n', ":3: a quote opens in this row and is never closed"),
        ("a.csv", 'q,a\n1,"x"y\n', ":2: is not a table"),
        ("a.csv", 'q,a\n"1\n2",3\n4,5,6\n', ":4: has 3 cells, and the first line names 2 columns"),
        ("a.csv", "q;a\n1;2\n", ":1: names one column, 'q;a'; separate columns by commas"),
        ("a.csv", "q\ta\n1\t2\n", ":1: names one column, 'q\\ta'; tabs separate the columns of the type tsv"),
        ("a.tsv", "q,a\n1,2\n", ":1: names one column, 'q,a'; commas separate the columns of the type csv"),
        ("a.csv", "q,a\n1,2\n".encode("utf-16-le"), ": is text in UTF-16"),
        ("a.jsonl", '{"q": 1}\r{"q": 2}\r', ":1: has a line end of CR alone; write LF"),
        ("a.jsonl", '{"q": ' + "1" * 5000 + "}", ":1: holds an integer of more than 4,300 digits"),
        ("a.json", '[{}, {"q": ' + "1" * 5000 + "}]", ":1: holds an integer of more than 4,300 digits"),
        ("a.json", "[null]", ": row 1: is not an object of columns; it is null"),
        ("a.jsonl", '{"q":\n', ":1: is not JSON: Expecting value at column 6"),
        ("a.csv", "q,a\n1\n", ":2: has 1 cells, and the first line names 2 columns"),
        ("a.csv", "q,a,q\n1,2,3\n", ":1: 'q': two columns have this name"),
        ("a.csv", b"q,a\n1,2\n\xe4,3\n", ":3: is not UTF-8 text"),
        ("a.csv", "q,a\r1,2\r3,4", ":1: has a line end of CR alone"),
        ("a.tsv", "q\ta\n1\n", ":2: has 1 cells"),
        ("a.parquet", "no parquet", ": is not Parquet"),
        ("a.parquet.gz", gzip.compress(b"x", mtime=0), ": Parquet is compressed inside"),
        ("a.jsonl", "a".encode("utf-16"), ": is text in UTF-16 or UTF-32; save it as UTF-8"),
        ("a.csv", "\ufeffq".encode("utf-16-be"), ": is text in UTF-16 or UTF-32"),
        ("a.jsonl.gz", b'{"q": 1}\n', ": is not a whole gzip file: Not a gzipped file"),
        ("a.jsonl.gz", MANY[:-9], ": is not a whole gzip file: Compressed file ended"),
        ("a.csv.gz", MANY[:200] + b"\0" * 400, ": is not a whole gzip file"),
        ("a.json.gz", gzip.compress(b"[" + b"{}," * 10**5, mtime=0)[:-20], ": is not a whole gzip file"),
    ],
)
def test_a_fault_names_file_and_place(write: Write, name: str, content: bytes | str, reason: str) -> None:
    path = write(name, content)
    assert (f"{path}{reason}" if reason.startswith(":") else reason) in fault(path)


def test_the_line_at_which_a_gzip_file_ends_is_named(write: Write) -> None:
    found = fault(write("a.jsonl.gz", MANY[: len(MANY) // 2]))
    assert int(found.rpartition("after line ")[2].rstrip(")")) > 20_000


def test_parquet_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table([pa.array([1]), pa.array([2])], names=["q", "q"])
    parquet.write_table(table, tmp_path / "a.parquet")
    assert "'q': two columns have this name" in fault(str(tmp_path / "a.parquet"))


def test_what_is_no_number_is_missing(write: Write, tmp_path: Path) -> None:
    odd = '{"a": NaN, "b": [Infinity, 1.5], "c": {"d": -Infinity}, "e": 1e999}'
    read = {"a": None, "b": [None, 1.5], "c": {"d": None}, "e": None}
    assert rows(write("a.jsonl", odd)) == [read]
    assert rows(write("a.json", f"[{odd}]")) == [read]
    numbers: list[dict[str, Any]] = [{"n": 1.5, "m": [float("nan")]}, {"n": float("nan"), "m": None}]
    assert rows(write_parquet(tmp_path / "a.parquet", numbers)) == [
        {"n": 1.5, "m": [None]},
        {"n": None, "m": None},
    ]


@pytest.mark.parametrize("name", ["rows.xlsx", "rows.txt", "rows", "org/name", "rows.csv.zst", "rows.gz"])
def test_an_unknown_ending_asks_for_the_type(name: str) -> None:
    with pytest.raises(RowError, match=r"set --file-type to one of jsonl, json, csv, tsv, parquet"):
        type_of_file(name, SETTING)


@pytest.mark.parametrize("name", ["-", "rows", "rows.gz", "/dev/null"])
def test_without_an_ending_a_command_may_have_its_own_type(name: str) -> None:
    assert type_of_file(name, SETTING, FileType.JSONL) is FileType.JSONL


def test_an_unknown_ending_is_no_missing_one(write: Write) -> None:
    with pytest.raises(RowError, match=r"the ending '\.log'"):
        type_of_file(write("rows.log", ""), SETTING, FileType.JSONL)


def test_the_type_outranks_the_ending(write: Write) -> None:
    assert rows(write("a.txt", CSV), FileType.CSV) == ROWS


def test_rows_are_read_one_at_a_time(write: Write) -> None:
    for name, content in (("a.jsonl", '{"q": 1}\nbroken'), ("a.json", '[{"q": 1}, broken')):
        reader = read_rows(path := write(name, content), type_of_file(path, SETTING))
        assert next(reader).values == {"q": 1}
        with pytest.raises(RowError):
            next(reader)


def test_a_dash_is_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"\xef\xbb\xbf" + JSONL.encode())))
    assert rows("-", FileType.JSONL) == ROWS


def test_lines_of_any_type_stand_where_their_rows_are(write: Write) -> None:
    assert lines(write("a.jsonl", "\ufeff\n" + JSONL)) == [b"\n", *JSONL.encode().splitlines(keepends=True)]
    table = lines(write("a.csv", CSV))
    assert [number for number, line in enumerate(table, 1) if line] == [2, 3, 5]
    assert [json.loads(line) for line in table if line] == ROWS
    assert [json.loads(line) for line in lines(write("a.json", json.dumps(ROWS, indent=1)))] == ROWS


def test_lines_are_what_their_rows_are(write: Write, tmp_path: Path) -> None:
    odd = f'{{"n": [NaN, Infinity, 1e999], "i": {"1" * 400}, "half": "\\ud83d", "t": "ä"}}'
    read = '{"n": [NaN, Infinity, Infinity], "i": ' + "1" * 400 + r', "half": "\ud83d", "t": "\u00e4"}'
    assert lines(write("a.json", f"[{odd}]")) == [read.encode()]
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    rich = [{"d": Decimal("1.50"), "m": moment, "day": moment.date(), "b": "ä".encode(), "n": float("nan")}]
    assert lines(write_parquet(tmp_path / "a.parquet", rich)) == [
        b'{"d": "1.50", "m": "2026-01-02T03:04:05+00:00", "day": "2026-01-02", "b": "\\u00e4", "n": NaN}'
    ]


def test_bytes_that_are_no_text_have_no_line(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [{"image": {"bytes": b"\xff"}}])
    with pytest.raises(RowError, match=r"row 1: holds bytes that are no text in UTF-8"):
        lines(path)
    assert rows(path) == [{"image": {"bytes": b"\xff"}}]


def test_a_map_is_an_object_and_a_moment_out_of_range_is_named(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"m": pa.array([[("a", b"x")]], pa.map_(pa.string(), pa.binary()))}), path)
    assert rows(str(path)) == [{"m": {"a": "x"}}]
    parquet.write_table(pa.table({"m": pa.array([10**17], pa.timestamp("ms"))}), path)
    assert ": behind row 0 a value cannot be read" in fault(str(path))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=3), max_size=5)


@given(OBJECTS, st.integers(1, 9), st.booleans())
def test_an_array_is_read_alike_in_pieces_of_any_size(
    objects: list[dict[str, Any]], size: int, escaped: bool
) -> None:
    from tunestream.rows import json_array

    text = json.dumps(objects, ensure_ascii=escaped, indent=size % 3)
    before, json_array._CHUNK = json_array._CHUNK, size  # type: ignore[misc]
    try:
        file = io.BytesIO(text.encode(errors="surrogatepass"))
        if not escaped and any("\ud800" <= sign <= "\udfff" for sign in text):
            return
        assert [item for _, item in json_array.array_items(file, "f")] == objects
    finally:
        json_array._CHUNK = before  # type: ignore[misc]
