"""``tunestream service run``: which application starts, and what it is given."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from tunestream.cli import app
from tunestream.cli.service_processes import REPLICA_TAKEN, package_of, service_of, service_processes
from tunestream.cli.service_server import BROKER_AWAY, FAILED
from tunestream.config.settings import KafkaSettings
from tunestream.topics import SERVICES

runner = CliRunner()


class Server:
    """Stands for the process that serves an application, and notes what it is given."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.served: list[tuple[object, str, int]] = []

    async def serve(self, application: object, host: str, port: int) -> int:
        self.served.append((application, host, port))
        return self.code


APPLICATION = object()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    module = ModuleType("tunestream_services.trainer.app")
    module.app = APPLICATION  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    found = Server()
    monkeypatch.setattr("tunestream.cli.service_server.serve", found.serve)
    before = signal.getsignal(signal.SIGTERM)
    yield found
    signal.signal(signal.SIGTERM, before)


def test_the_application_gets_host_and_port(server: Server) -> None:
    done = runner.invoke(app, ["service", "run", "trainer", "--host", "0.0.0.0", "--port", "9000"])
    assert done.exit_code == 0, done.output
    assert server.served == [(APPLICATION, "0.0.0.0", 9000)]


@pytest.mark.parametrize("code", [0, FAILED, BROKER_AWAY, REPLICA_TAKEN])
def test_the_exit_code_is_the_services(server: Server, code: int) -> None:
    server.code = code
    assert runner.invoke(app, ["service", "run", "trainer"]).exit_code == code


def test_an_unknown_service_is_a_usage_error_that_names_those_there_are() -> None:
    done = runner.invoke(app, ["service", "run", "colector"], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert "no service colector" in done.stderr
    assert all(service in done.stderr for service in SERVICES)


def test_workers_are_no_option() -> None:
    assert runner.invoke(app, ["service", "run", "trainer", "--workers", "2"]).exit_code == 2


def test_missing_packages_are_named_with_their_extra(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunestream.cli.extras.find_spec", lambda _name: None)
    done = runner.invoke(app, ["service", "run", "trainer"])
    assert done.exit_code == 1
    assert "tunestream[services]" in done.stderr
    assert not server.served


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
