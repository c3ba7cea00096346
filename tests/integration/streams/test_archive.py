"""The archive of Kafka's classes: used where it is whole, done without where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock
from structlog.testing import capture_logs

from tunestream.streams.embedded import BrokerDiedError
from tunestream.streams.embedded.archive import with_archive
from tunestream.streams.embedded.folder import DataFolder
from tunestream.streams.embedded.jars import class_path
from tunestream.streams.embedded.java import Java, format_records
from tunestream.streams.embedded.ports import free_port
from tunestream.streams.embedded.properties import server_properties

ONLY_WITH_THE_ARCHIVE = "-XX:AOTMode=on"


def test_java_takes_the_classes_of_kafka_from_the_archive(tmp_path: Path, kafka: str) -> None:
    format_anew(tmp_path, with_archive(Java(class_path())).adding(ONLY_WITH_THE_ARCHIVE))


@pytest.mark.parametrize("damage", ["changed inside", "cut off", "something else"])
def test_an_archive_that_is_damaged_is_done_without(tmp_path: Path, kafka: str, damage: str) -> None:
    jars = Java(class_path())
    whole = archive_of(with_archive(jars))
    (tmp_path / "cache").mkdir()
    damaged = tmp_path / "cache" / whole.name
    content = whole.read_bytes()
    middle = len(content) // 2
    damaged.write_bytes(
        {
            "changed inside": content[:middle] + bytes(1 << 20) + content[middle + (1 << 20) :],
            "cut off": content[:middle],
            "something else": b"no archive at all",
        }[damage]
    )
    java = with_archive(jars, tmp_path / "cache")
    assert archive_of(java) == damaged
    with pytest.raises(BrokerDiedError):
        format_anew(tmp_path / "1", java.adding(ONLY_WITH_THE_ARCHIVE))
    format_anew(tmp_path / "2", java)


def test_who_starts_while_the_archive_is_made_does_not_wait_for_it(tmp_path: Path, kafka: str) -> None:
    jars = Java(class_path())
    with FileLock(tmp_path / archive_of(with_archive(jars)).with_suffix(".lock").name):
        assert with_archive(jars, tmp_path) == jars


def test_a_folder_that_takes_no_archive_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    jars = Java(class_path())
    with capture_logs() as logs:
        assert with_archive(jars, tmp_path / "file" / "cache") == jars
    assert [line["event"] for line in logs] == ["kafka_archive_not_made"]


def archive_of(java: Java) -> Path:
    option = next(option for option in java.options if option.startswith("-XX:AOTCache="))
    return Path(option.partition("=")[2])


def format_anew(path: Path, java: Java) -> None:
    folder = DataFolder(path)
    path.mkdir(exist_ok=True)
    text = server_properties(folder.records, port=free_port(), controller_port=free_port())
    folder.properties.write_text(text)
    format_records(folder, java, "a-cluster-of-this-test")
