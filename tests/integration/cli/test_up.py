"""``tunestream up``: services that live, die, come back and end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest
from typer.testing import Result

from tests.helpers.wheel import build_wheel, environment_without_checkout, install_wheel
from tunestream.config.settings import KafkaSettings
from tunestream.overview.deployment import read_deployment

Command = Callable[..., Result]
HERE = Path(sys.executable).parent  # the editable install of the tests


@contextmanager
def up(
    folder: Path, *arguments: str, scripts: Path = HERE, cwd: Path | None = None, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [scripts / "tunestream", "up", "--json", "--data", str(folder), *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment_without_checkout() | environment,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def started(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    return json.loads(line)  # type: ignore[no-any-return]


def get(url: str) -> httpx.Response:
    return httpx.get(url, follow_redirects=True, timeout=90)


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def await_restart(file: Path, name: str) -> None:
    """Wait until a service was started again, as the record of `up` has it."""
    deadline = monotonic() + 90
    while monotonic() < deadline:
        record = read_deployment(file)
        assert record is not None
        if any(one.restarts and one.process and is_alive(one.process.pid) for one in record.services):
            return
        sleep(0.05)
    raise AssertionError(f"{name} was not started again")


def wait_said(process: subprocess.Popen[str], text: str) -> str:
    assert process.stderr is not None
    said = ""
    while text not in said:
        line = process.stderr.readline()
        assert line, f"{text!r} was never said: {said}"
        said += line
    return said


def test_a_killed_service_comes_back_and_everything_ends(settings: KafkaSettings, tmp_path: Path) -> None:
    with up(tmp_path, "--only", "ttc_collector", "--only", "pair-builder") as process:
        told = started(process)
        services = {service["name"]: service for service in told["services"]}
        assert told["bootstrap_servers"] == settings.bootstrap_servers
        assert services.keys() == {"ttc_collector", "pair_builder"}
        assert get(f"{services['pair_builder']['url']}/health/live").status_code == 200
        os.kill(services["ttc_collector"]["pid"], signal.SIGKILL)
        said = wait_said(process, "started again at once")
        assert "ttc_collector ended with signal SIGKILL" in said
        assert is_alive(services["pair_builder"]["pid"])
        await_restart(tmp_path / "up.json", "ttc_collector")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=90)
    assert process.returncode == 0, said
    assert "everything has stopped" in said
    assert not is_alive(services["pair_builder"]["pid"])


def test_a_service_that_keeps_dying_ends_the_command(settings: KafkaSettings, tmp_path: Path) -> None:
    with up(
        tmp_path,
        *("--only", "ttc_collector"),
        TUNESTREAM_COMMIT_INTERVAL_MS="0",
        TUNESTREAM_UP_RESTART_WAITS="[0, 0.1]",
    ) as process:
        out, said = process.communicate(timeout=120)
    assert (process.returncode, out) == (1, "")
    assert "TUNESTREAM_COMMIT_INTERVAL_MS" in said
    assert "died 3 times" in said


@pytest.fixture(params=["editable", "wheel"])
def scripts(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder of the scripts of an installation."""
    return HERE if request.param == "editable" else install_wheel(build_wheel(tmp_path), tmp_path / "venv")


def test_services_of_the_users_own_project_are_not_started(
    settings: KafkaSettings, scripts: Path, tmp_path: Path
) -> None:
    """Folders and modules where the command is called may have any name, also those that ours import."""
    marker, project = tmp_path / "imported", tmp_path / "project"
    app = f"import pathlib; pathlib.Path({str(marker)!r}).touch(); raise SystemExit(7)"
    for package in ("services", "services/ttc_collector", "tunestream_services/ttc_collector", "faststream"):
        (project / package).mkdir(parents=True)
        (project / package / "__init__.py").write_text(app)
        (project / package / "app.py").write_text(app)
    with up(tmp_path / "data", "--only", "ttc_collector", scripts=scripts, cwd=project) as process:
        (service,) = started(process)["services"]
        assert get(f"{service['url']}/health/ready").status_code == 200
        process.send_signal(signal.SIGTERM)
        _, reported = process.communicate(timeout=90)
    assert process.returncode == 0, reported
    assert not marker.exists()


def test_the_embedded_broker_is_started_found_and_ended(
    tunestream: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setenv("TUNESTREAM_KAFKA_TOPIC_PREFIX", "up.")
    monkeypatch.chdir(tmp_path)
    data = tmp_path / ".tunestream"
    with up(data, "--only", "ttc_collector") as process:
        told = started(process)
        (service,) = told["services"]
        assert "tunestream_" in get(f"{service['url']}/metrics").text
        info = get(f"{service['url']}/info").json()
        assert (info["service"], info["broker"], info["prefix"]) == (
            "ttc-collector",
            told["bootstrap_servers"],
            "up.",
        )
        record = read_deployment(data / "up.json")
        assert record is not None
        assert [one.process.pid for one in record.services if one.process] == [service["pid"]]
        monkeypatch.delenv("TUNESTREAM_KAFKA_TOPIC_PREFIX")
        topics = tunestream("topics", "list", "--json")
        assert json.loads(topics.stdout)[0]["name"].startswith("up."), "found by the folder's up.json"
        found = {row["name"]: row for row in json.loads(tunestream("doctor", "--json").stdout)}
        assert found["tunestream up"]["ok"]
        assert found["ttc_collector"]["finding"] == f"{service['url']}: ready"
        assert found["trainer"]["state"] == "warn"
        again = tunestream("up", "--data", data)
        assert again.exit_code == 1
        assert f"process {process.pid}" in again.stderr
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=90)
    assert process.returncode == 0
    assert not is_alive(service["pid"])
    assert read_deployment(data / "up.json") is None


def test_unknown_services_are_named(tmp_path: Path) -> None:
    with up(tmp_path, "--only", "colector") as process:
        _, said = process.communicate(timeout=90)
    assert process.returncode == 2
    assert "colector" in said
