"""What a restore does where it may neither see nor alter the settings of its changelog."""

from __future__ import annotations

import pytest
from aiokafka.errors import TopicAuthorizationFailedError
from structlog.testing import capture_logs

from tunestream.config.settings import KafkaSettings
from tunestream.streams.changelog import restoring
from tunestream.streams.changelog.progress import Progress
from tunestream.streams.changelog.restoring import Snapshot, read_changelog

SNAPSHOT = Snapshot({b"key": b"value"}, end=1, read=1)


async def forbidden(*_arguments: object) -> float:
    raise TopicAuthorizationFailedError("pair-builder.changelog")


def readings(monkeypatch: pytest.MonkeyPatch, *minutes: float) -> list[Progress]:
    """Have readings take so long; return their progresses as they begin."""
    begun: list[Progress] = []

    async def read(_settings: object, _name: str, _partition: int, progress: Progress) -> Snapshot:
        seconds = minutes[len(begun)] * 60
        progress.began -= seconds
        progress.started -= seconds
        begun.append(progress)
        return SNAPSHOT

    monkeypatch.setattr(restoring, "_read", read)
    monkeypatch.setattr(restoring, "tombstone_seconds", forbidden)
    monkeypatch.setattr(restoring, "keep_tombstones", forbidden)
    return begun


async def test_tombstones_are_believed_to_live_as_long_as_the_catalogue_wants(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = readings(monkeypatch, 14.9)
    assert await read_changelog(KafkaSettings(), "pair-builder.changelog", 0) == SNAPSHOT
    assert len(begun) == 1


async def test_a_right_that_is_missing_is_logged_and_the_state_is_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = readings(monkeypatch, 15.1, 14.9)
    with capture_logs() as logs:
        assert await read_changelog(KafkaSettings(), "pair-builder.changelog", 0) == SNAPSHOT
    assert len(begun) == 2
    assert "restore.retention_not_raised" in {line["event"] for line in logs}


async def test_a_machine_that_slept_reads_again_and_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = readings(monkeypatch, 0.1, 0.1)
    read = restoring._read

    async def sleep(settings: KafkaSettings, name: str, partition: int, progress: Progress) -> Snapshot:
        if not begun:
            progress.began -= 3600.0  # the calendar went on, the machine's own time did not
        return await read(settings, name, partition, progress)

    monkeypatch.setattr(restoring, "_read", sleep)
    with capture_logs() as logs:
        assert await read_changelog(KafkaSettings(), "pair-builder.changelog", 0) == SNAPSHOT
    assert len(begun) == 2
    assert [line["event"] for line in logs] == ["restore.too_old"]
