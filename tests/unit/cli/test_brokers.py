"""Which broker a command works with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.contract.command_line import commands
from tunestream.cli.brokers import broker_settings
from tunestream.cli.errors import Failure
from tunestream.cli.up_record import UpRecord, check_alone
from tunestream.config.settings import KafkaSettings
from tunestream.overview.deployment import UP_FILE, Deployment, read_deployment, write_deployment
from tunestream.processes import ProcessRecord

GONE = ProcessRecord(pid=os.getpid(), started=1.0)  # the number is ours by now

# They read files, or are the broker themselves.
WITHOUT_A_BROKER = {
    "curriculum",
    "experiment",
    "experiment compare",
    "experiment export",
    "experiment gc",
    "experiment init",
    "experiment list",
    "experiment show",
    "experiment validate",
    "kafka",
    "pairs",
    "run",
    "run schema",
    "run validate",
    "serve",
    "service",
    "streams",
    "topics",
    "trajectories",
    "upgrade",
    "",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "TUNESTREAM_KAFKA_TOPIC_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def running(process: ProcessRecord | None = None) -> Deployment:
    found = Deployment(
        process=process or ProcessRecord.of(os.getpid()),
        broker="127.0.0.1:29092",
        topic_prefix="mine.",
        artifacts="a",
    )
    write_deployment(UP_FILE, found)
    return found


def chosen(brokers: str | None = None) -> tuple[str, str]:
    settings = broker_settings(brokers)
    return settings.bootstrap_servers, settings.topic_prefix


def test_the_deployment_of_the_folder_is_found_with_its_prefix() -> None:
    running()
    assert chosen() == ("127.0.0.1:29092", "mine.")


def test_without_one_the_default_holds() -> None:
    assert chosen() == ("localhost:9092", "")


def test_one_that_was_killed_is_none() -> None:
    running(GONE)
    assert chosen() == ("localhost:9092", "")


def test_what_is_named_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    running()
    assert chosen("a:1,b:2") == ("a:1,b:2", "")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "e:3")
    assert chosen() == ("e:3", "")
    assert chosen("a:1") == ("a:1", "")


def test_a_prefix_of_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    running()
    monkeypatch.setenv("TUNESTREAM_KAFKA_TOPIC_PREFIX", "other.")
    assert chosen() == ("127.0.0.1:29092", "other.")


@pytest.mark.parametrize("content", ["", "{", '{"process": 1}'])
def test_a_damaged_file_is_named(content: str) -> None:
    running()
    UP_FILE.write_text(content)
    with pytest.raises(Failure, match=r"up\.json is damaged or of another release"):
        broker_settings()
    check_alone(UP_FILE.parent)  # `up` writes it again


def test_a_newer_release_may_add_fields() -> None:
    text = running().model_dump_json()
    UP_FILE.write_text(text[:-1] + ', "added": 1}')
    assert chosen() == ("127.0.0.1:29092", "mine.")


def test_a_second_up_is_refused_and_named() -> None:
    running()
    with pytest.raises(Failure, match=rf"process {os.getpid()}, broker 127\.0\.0\.1:29092"):
        check_alone(UP_FILE.parent)
    running(GONE)
    check_alone(UP_FILE.parent)


def test_the_record_is_there_while_its_block_is_open_and_another_s_stays() -> None:
    kafka = KafkaSettings(bootstrap_servers="b:1", topic_prefix="p.")
    with UpRecord(UP_FILE.parent, kafka, "a"):
        found = read_deployment()
        assert found is not None
        assert (found.broker, found.topic_prefix, found.process.is_alive) == ("b:1", "p.", True)
    assert read_deployment() is None
    with UpRecord(UP_FILE.parent, kafka, "a"):
        other = running(GONE)
    assert read_deployment() == other


def test_every_command_that_needs_a_broker_takes_one() -> None:
    without = {path for path, found in commands().items() if "--brokers VALUE" not in found["options"]}
    assert without == WITHOUT_A_BROKER
