"""``tunestream service run``: which application starts, and what it is given."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from typer.testing import CliRunner

from tunestream.cli import app
from tunestream.cli.service_processes import package_of, service_of, service_processes
from tunestream.config.settings import KafkaSettings
from tunestream.topics import SERVICES

runner = CliRunner()


class Application:
    """Stands for a service's application, and notes how it is run."""

    def __init__(self) -> None:
        self.runs: list[tuple[int, dict[str, Any]]] = []

    async def run(self, log_level: int, options: dict[str, Any]) -> None:
        self.runs.append((log_level, options))


async def answers(settings: KafkaSettings, deadline: float) -> None:
    """The broker answers at once."""


def broker_is(monkeypatch: pytest.MonkeyPatch, found: Callable[[KafkaSettings, float], Any]) -> None:
    monkeypatch.setattr("tunestream.streams.startup.await_broker", found)


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Application:
    module = ModuleType("tunestream_services.trainer.app")
    application = Application()
    module.app = application  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    broker_is(monkeypatch, answers)
    return application


def test_the_application_gets_host_and_port(trainer: Application) -> None:
    done = runner.invoke(app, ["service", "run", "trainer", "--host", "0.0.0.0", "--port", "9000"])
    assert done.exit_code == 0, done.output
    assert trainer.runs == [(logging.INFO, {"host": "0.0.0.0", "port": 9000})]


def test_the_log_level_is_the_deployments(trainer: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESTREAM_LOG_LEVEL", "warning")
    assert runner.invoke(app, ["service", "run", "trainer"]).exit_code == 0
    assert trainer.runs == [(logging.WARNING, {"host": "127.0.0.1", "port": 8000})]


def test_a_broker_that_stays_away_is_one_error_and_exit_code_3(
    trainer: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(settings: KafkaSettings, deadline: float) -> None:
        raise KafkaConnectionError("nobody at home")

    broker_is(monkeypatch, away)
    done = runner.invoke(app, ["service", "run", "trainer"])
    assert done.exit_code == 3
    assert "nobody at home" in done.stderr
    assert "KAFKA_BOOTSTRAP_SERVERS" in done.stderr
    assert isinstance(done.exception, SystemExit)
    assert not trainer.runs


def test_a_signal_ends_the_wait_for_the_broker(trainer: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(settings: KafkaSettings, deadline: float) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    broker_is(monkeypatch, never)
    done = runner.invoke(app, ["service", "run", "trainer"])
    assert done.exit_code == 0, done.output
    assert not trainer.runs


def test_an_unknown_service_is_a_usage_error_that_names_those_there_are() -> None:
    done = runner.invoke(app, ["service", "run", "colector"], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert "no service colector" in done.stderr
    assert all(service in done.stderr for service in SERVICES)


def test_workers_are_no_option() -> None:
    assert runner.invoke(app, ["service", "run", "trainer", "--workers", "2"]).exit_code == 2


def test_missing_packages_are_named_with_their_extra(
    trainer: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunestream.cli.extras.find_spec", lambda _name: None)
    done = runner.invoke(app, ["service", "run", "trainer"])
    assert done.exit_code == 1
    assert "tunestream[services]" in done.stderr
    assert not trainer.runs


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_two_spellings_and_one_package(service: str) -> None:
    package = package_of(service)
    assert package.isidentifier()
    assert {service_of(service), service_of(package)} == {service}


@pytest.mark.parametrize("name", ["", "Trainer", "trainer.app", "trainer "])
def test_other_names_are_no_services(name: str) -> None:
    with pytest.raises(LookupError, match="there are ttc-collector, pair-builder"):
        service_of(name)


def test_processes_have_their_own_port_log_and_environment(tmp_path: Path) -> None:
    kafka = KafkaSettings(bootstrap_servers="broker:9092", topic_prefix="mine.")
    running = service_processes(SERVICES, kafka, artifacts="s3://store", logs=tmp_path, replica="3")
    assert len({service.url for service in running}) == len(SERVICES)
    assert [one.process.name for one in running] == [package_of(service) for service in SERVICES]
    for service, one in zip(SERVICES, running, strict=True):
        command = list(one.process.command)
        assert command[1:7] == ["-P", "-m", "tunestream", "service", "run", service]
        assert one.url.endswith(f":{command[command.index('--port') + 1]}")
        assert one.process.ready_url == f"{one.url}/health/ready"
        assert one.process.log == tmp_path / f"{package_of(service)}.log"
        assert one.process.environment == {
            "KAFKA_BOOTSTRAP_SERVERS": "broker:9092",
            "TUNESTREAM_KAFKA_TOPIC_PREFIX": "mine.",
            "TUNESTREAM_ARTIFACTS": "s3://store",
            "TUNESTREAM_REPLICA": "3",
        }


def test_up_names_the_missing_extra_before_it_looks_for_a_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunestream.cli.extras.find_spec", lambda _name: None)
    done = runner.invoke(app, ["up", "--data", str(tmp_path)])
    assert done.exit_code == 1
    assert "tunestream[services]" in done.stderr
    assert not list(tmp_path.iterdir())
