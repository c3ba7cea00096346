"""Behaviour of the content-addressed store on a local folder and on a remote-like file system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunestream.artifacts import (
    ArtifactCorrupt,
    ArtifactMissing,
    ArtifactStore,
    ArtifactUnreachable,
    CheckpointStore,
    put_rows,
    read_rows,
    rows_to_jsonl,
)
from tunestream.events.dataset import PreferenceRow
from tunestream.events.ids import content_digest


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ArtifactStore]:
    if request.param == "folder":
        yield ArtifactStore(str(tmp_path / "store"))
        return
    name = f"/{uuid4().hex}"
    yield ArtifactStore(f"memory:/{name}")
    filesystem = fsspec.filesystem("memory")
    if filesystem.exists(name):
        filesystem.rm(name, recursive=True)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    (folder / "nested").mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"\x00weights\xff")
    (folder / "nested" / "config.json").write_text("{}")
    return folder


def row(number: int = 0) -> PreferenceRow:
    return PreferenceRow(
        group_id=f"g{number}",
        example_id="e",
        turn_id="t",
        prompt="a\r\nprompt\u2028of lines",
        chosen="yes",
        rejected="no",
        chosen_score=1.0,
        rejected_score=0.0,
        reward=1.0,
    )


@given(content=st.binary())
def test_content_comes_back_under_its_digest(content: bytes) -> None:
    store = ArtifactStore("memory://digests")
    stored = store.put_bytes(content)
    assert stored.sha256 == content_digest(content)
    assert stored.size == len(content)
    assert store.get_bytes(stored.uri, stored.sha256) == content
    assert store.put_bytes(content) == stored


def test_a_uri_is_valid_after_the_store_moved(tmp_path: Path) -> None:
    stored = ArtifactStore(str(tmp_path / "old")).put_bytes(b"content")
    (tmp_path / "old").rename(tmp_path / "new")
    assert ArtifactStore(str(tmp_path / "new")).get_bytes(stored.uri, stored.sha256) == b"content"


def test_the_full_url_opens_without_the_store(store: ArtifactStore) -> None:
    stored = store.put_bytes(b"content")
    with fsspec.open(store.locate(stored.uri)) as file:
        assert file.read() == b"content"


def test_a_damaged_content_is_refused(store: ArtifactStore) -> None:
    stored = store.put_bytes(b"content")
    store.files.write(stored.uri.removeprefix("artifact://"), b"changed")
    with pytest.raises(ArtifactCorrupt, match=stored.sha256):
        store.get_bytes(stored.uri, stored.sha256)


def test_a_missing_content_is_named(store: ArtifactStore) -> None:
    with pytest.raises(ArtifactMissing, match="objects/ab/abc"):
        store.get_bytes("artifact://objects/ab/abc", "abc")


@pytest.mark.parametrize("uri", ["/etc/passwd", "file:///etc/passwd", "artifact://../secret"])
def test_only_uris_of_this_store_are_read(store: ArtifactStore, uri: str) -> None:
    with pytest.raises(ArtifactMissing, match="artifact://"):
        store.get_bytes(uri, "0")


def test_writing_leaves_nothing_beside_the_content(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    stored = store.put_bytes(b"content")
    files = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert files == [stored.sha256]


def test_a_folder_comes_back_as_it_was(store: ArtifactStore, adapter: Path, tmp_path: Path) -> None:
    stored = store.put_directory(adapter)
    fetched = store.fetch_directory(stored.uri, stored.sha256, tmp_path / "fetched")
    assert (fetched / "adapter_model.safetensors").read_bytes() == b"\x00weights\xff"
    assert sorted(p.relative_to(fetched).as_posix() for p in fetched.rglob("*") if p.is_file()) == [
        "adapter_model.safetensors",
        "nested/config.json",
    ]
    assert store.put_directory(fetched) == stored


def test_the_digest_of_a_folder_covers_names(store: ArtifactStore, adapter: Path) -> None:
    before = store.put_directory(adapter)
    (adapter / "nested" / "config.json").rename(adapter / "nested" / "other.json")
    assert store.put_directory(adapter).sha256 != before.sha256


def test_a_folder_without_manifest_does_not_exist(
    store: ArtifactStore, adapter: Path, tmp_path: Path
) -> None:
    stored = store.put_directory(adapter)
    store.files.remove(f"{stored.uri.removeprefix('artifact://')}/manifest.json")
    with pytest.raises(ArtifactMissing):
        store.fetch_directory(stored.uri, stored.sha256, tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()


def test_a_folder_with_a_damaged_file_is_refused(store: ArtifactStore, adapter: Path, tmp_path: Path) -> None:
    stored = store.put_directory(adapter)
    store.files.write(f"{stored.uri.removeprefix('artifact://')}/nested/config.json", b"[]")
    with pytest.raises(ArtifactCorrupt, match="nested"):
        store.fetch_directory(stored.uri, stored.sha256, tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()


def test_rows_come_back_one_a_line(store: ArtifactStore) -> None:
    rows = [row(0), row(1)]
    file = put_rows(store, rows)
    assert file.rows == 2
    assert list(read_rows(store.get_bytes(file.uri, file.sha256))) == rows


def test_an_unreadable_line_keeps_its_place() -> None:
    content = rows_to_jsonl([row(0)]) + b'{"prompt": 1}\n' + rows_to_jsonl([row(1)])
    assert list(read_rows(content)) == [row(0), None, row(1)]


def test_checkpoints_of_earlier_attempts_come_furthest_first(
    store: ArtifactStore, adapter: Path, tmp_path: Path
) -> None:
    checkpoints = CheckpointStore(store, "job")
    assert checkpoints.complete(before_attempt=9) == []
    checkpoints.publish(adapter, attempt=1, step=2)
    checkpoints.publish(adapter, attempt=1, step=10)
    checkpoints.publish(adapter, attempt=2, step=4)
    checkpoints.publish(adapter, attempt=3, step=20)
    assert checkpoints.complete(before_attempt=1) == []
    assert checkpoints.complete(before_attempt=3) == [(1, 10), (2, 4)]
    assert checkpoints.fetch(tmp_path / "c", attempt=1, step=10).joinpath("nested", "config.json").exists()


def test_an_attempt_keeps_only_its_last_checkpoint(store: ArtifactStore, adapter: Path) -> None:
    checkpoints = CheckpointStore(store, "job")
    checkpoints.publish(adapter, attempt=1, step=2)
    checkpoints.publish(adapter, attempt=1, step=4)
    assert store.files.children("checkpoints/job/1") == ["4"]
    checkpoints.delete()
    assert checkpoints.complete(before_attempt=9) == []


def test_a_checkpoint_without_manifest_does_not_exist(store: ArtifactStore, adapter: Path) -> None:
    checkpoints = CheckpointStore(store, "job")
    checkpoints.publish(adapter, attempt=1, step=2)
    checkpoints.publish(adapter, attempt=2, step=8)
    store.files.remove("checkpoints/job/2/8/manifest.json")
    assert checkpoints.complete(before_attempt=3) == [(1, 2)]


def test_a_job_takes_over_the_furthest_checkpoint_of_another(store: ArtifactStore, tmp_path: Path) -> None:
    theirs, ours = CheckpointStore(store, "theirs"), CheckpointStore(store, "ours")
    for attempt, step in ((1, 10), (2, 20)):
        folder = tmp_path / str(step)
        folder.mkdir()
        (folder / "weights").write_text(str(step))
        theirs.publish(folder, attempt=attempt, step=step)
    assert ours.take_over(theirs) == 20
    assert ours.complete(before_attempt=1) == [(0, 20)]
    fetched = ours.fetch(tmp_path / "fetched", attempt=0, step=20)
    assert (fetched / "weights").read_text() == "20"
    assert theirs.complete(before_attempt=9) == []
    assert ours.take_over(theirs) is None


def test_a_store_that_does_not_answer_is_told_apart_from_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "no folder").touch()
    store = ArtifactStore(str(tmp_path / "no folder" / "store"))
    with pytest.raises(ArtifactUnreachable, match="cannot be reached: NotADirectoryError"):
        store.get_bytes("artifact://objects/ab/abc", "abc")
    with pytest.raises(ArtifactUnreachable, match="no folder"):
        store.put_bytes(b"content")
