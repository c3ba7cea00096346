"""Logs of jobs: appended in parts, bounded, and none the worse for a store that was away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tunestream.artifacts import ArtifactStore, AttemptLog, LogStore
from tunestream.artifacts.logs import PART_BYTES, PARTS

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> LogStore:
    return LogStore(ArtifactStore(str(tmp_path)), "job")


def test_an_attempt_reads_what_was_flushed_so_far(store: LogStore) -> None:
    log = AttemptLog(store, 2)
    log.append(NOW, "output", "one")
    assert store.attempts() == []
    log.flush(NOW)
    log.append(NOW + timedelta(seconds=1), "report", "two\u2028lines")
    log.flush(NOW)
    log.append(NOW, "output", "never flushed")
    lines = store.read(2)
    assert [(line.attempt, line.source, line.text) for line in lines] == [
        (2, "output", "one"),
        (2, "report", "two\u2028lines"),
    ]
    assert lines[1].time == NOW + timedelta(seconds=1)
    assert (store.attempts(), store.read(1)) == ([2], [])
    store.delete()
    assert not store.exist()


def test_of_a_long_log_the_beginning_and_the_end_stay(store: LogStore) -> None:
    log = AttemptLog(store, 1)
    count = 3 * PARTS * PART_BYTES // 3000
    for number in range(count):
        log.append(NOW, "output", f"{number} {'x' * 3000}")
        if number % 40 == 0:
            log.flush(NOW)
    log.flush(NOW)
    kept = [int(line.text.split()[0]) for line in store.read(1)]
    assert kept == sorted(kept)
    assert (kept[0], kept[-1]) == (0, count - 1)
    assert len(kept) < count
    folder = store.files.children("logs/job/1")
    assert sum(len(store.files.read(f"logs/job/1/{name}")) for name in folder) <= PARTS * (PART_BYTES + 4000)


def test_a_burst_is_counted_instead_of_kept_in_memory(store: LogStore) -> None:
    log = AttemptLog(store, 1)
    for _ in range(2 * PARTS * PART_BYTES // 3000):
        log.append(NOW, "output", "x" * 3000)
    log.append(NOW, "output", "y" * 9000)
    log.flush(NOW)
    assert "lines were left out" in store.read(1)[-1].text
    log.append(NOW, "output", "y" * 9000)
    log.flush(NOW)
    assert store.read(1)[-1].text.endswith("y… (9000 characters)")


def test_a_store_that_was_away_gets_the_lines_later(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AttemptLog(store, 1)
    log.append(NOW, "output", "one")

    def refuse(name: str, content: bytes) -> None:
        raise ConnectionError(name)

    with monkeypatch.context() as away:
        away.setattr(store.files, "write", refuse)
        with pytest.raises(ConnectionError):
            log.flush(NOW)
    log.append(NOW, "output", "two")
    log.flush(NOW)
    assert [line.text for line in store.read(1)] == ["one", "two"]


def test_a_later_writer_of_an_attempt_goes_on_behind_an_earlier_one(store: LogStore) -> None:
    for text in ("one", "two", "three"):
        log = AttemptLog(store, 1)
        log.append(NOW, "output", text)
        log.flush(NOW)
    assert [line.text for line in store.read(1)] == ["one", "two", "three"]
