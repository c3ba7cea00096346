"""What docker-compose.yml and deploy/Dockerfile name exists. The images themselves are not built here."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from pydantic_settings import BaseSettings

from tools.docs.service_tables import SETTINGS, service_settings, variable_of
from tunestream.cli.app import COMMANDS, load
from tunestream.config.settings import KafkaSettings
from tunestream.streams.embedded.properties import server_properties
from tunestream.topics import SERVICES

ROOT = Path(__file__).parents[2]
FIRST = {name: f"tunestream_services.{name.replace('-', '_')}.app:app" for name in SERVICES}
# The trainer has none: what it trains on is one accelerator's work.
SECOND = {f"{name}-1": app for name, app in FIRST.items() if name != "trainer"}
APPS = FIRST | SECOND
# Of one broker in a network of its own; the embedded one listens on one interface and needs neither.
ONLY_IN_COMPOSE = {"inter.broker.listener.name"}


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    """The file as a Compose implementation reads it, without an engine."""
    command = [sys.executable, "-m", "podman_compose", "--dry-run", "--profile", "replicas", "config"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TUNESTREAM")}
    done = subprocess.run(
        command, cwd=ROOT, env=clean, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = yaml.safe_load(done.stdout)
    return found


@pytest.fixture(scope="session")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = compose["services"]
    return found


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def dockerfile() -> Iterator[list[str]]:
    text = (ROOT / "deploy/Dockerfile").read_text("utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.split()


def stages() -> set[str]:
    return {words[3] for words in dockerfile() if words[0] == "FROM" and len(words) == 4}


def test_broker_topics_and_every_service(services: dict[str, Any]) -> None:
    assert services.keys() == {"kafka", "topics", *APPS}


@pytest.mark.parametrize("name", APPS)
def test_a_service_runs_its_app(services: dict[str, Any], name: str) -> None:
    command = services[name]["command"]
    assert command[:4] == ["tunestream", "service", "run", name.removesuffix("-1")]
    assert "tunestream" in entry_points(group="console_scripts").names


def test_the_trainers_image_runs_the_trainer(services: dict[str, Any]) -> None:
    commands = [json.loads(" ".join(words[1:])) for words in dockerfile() if words[0] == "CMD"]
    assert services["trainer"]["command"] in commands


@pytest.mark.parametrize("name", FIRST)
def test_an_app_starts_without_a_broker_and_serves_what_is_asked_of_it(
    services: dict[str, Any], name: str
) -> None:
    module, attribute = APPS[name].split(":")
    program = f"import json, {module} as m; print(json.dumps([path for path, _ in m.{attribute}.routes]))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=240, check=True
    )
    (url,) = re.findall(r"http://[^']+", services[name]["healthcheck"]["test"][-1])
    assert urlsplit(url).path in json.loads(done.stdout)


@pytest.mark.parametrize("name", APPS)
def test_ports_agree(services: dict[str, Any], name: str) -> None:
    service = services[name]
    port = option(service["command"], "--port")
    (url,) = re.findall(r"http://[^']+", service["healthcheck"]["test"][-1])
    exposed = {words[1] for words in dockerfile() if words[0] == "EXPOSE"}
    assert {str(urlsplit(url).port), *service["expose"], *exposed} == {port}
    assert option(service["command"], "--host") == "0.0.0.0"


@pytest.mark.parametrize("name", APPS)
def test_the_check_is_a_program(services: dict[str, Any], name: str) -> None:
    kind, python, flag, program = services[name]["healthcheck"]["test"]
    assert (kind, python, flag) == ("CMD", "python", "-c")
    compile(program, "healthcheck", "exec")


def test_replicas_of_a_service_have_numbers_of_their_own(services: dict[str, Any]) -> None:
    for name in SECOND:
        first, second = services[name.removesuffix("-1")], services[name]
        assert first["environment"]["TUNESTREAM_REPLICA"] != second["environment"]["TUNESTREAM_REPLICA"]
        assert first["command"] == second["command"]
        assert second["profiles"] == ["replicas"]


def test_the_topics_job_is_a_command(services: dict[str, Any]) -> None:
    script, *words = services["topics"]["command"]
    assert script in entry_points(group="console_scripts").names
    assert words[0] in COMMANDS
    group = load(words[0])
    assert words[1] in getattr(group, "commands", {})


def test_every_service_waits_for_the_topics_and_they_for_the_broker(services: dict[str, Any]) -> None:
    assert services["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    for name in APPS:
        waits = {"topics": {"condition": "service_completed_successfully"}}
        assert services[name]["depends_on"] == waits


def test_every_variable_is_read(services: dict[str, Any]) -> None:
    classes: list[type[BaseSettings]] = [*SETTINGS, *service_settings().values()]
    known = {variable_of(cls, field) for cls in classes for field in cls.model_fields}
    for name in ("topics", *APPS):
        assert services[name]["environment"].keys() <= known, name


def test_every_value_is_accepted(services: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("topics", *APPS):
        with monkeypatch.context() as patched:
            for variable, value in services[name]["environment"].items():
                patched.setenv(variable, value)
            classes: list[type[BaseSettings]] = [*SETTINGS, *service_settings().values()]
            for cls in classes:
                cls()


def test_every_broker_variable_is_a_property(services: dict[str, Any]) -> None:
    text = server_properties(Path("/data"), port=1, controller_port=2)
    known = {line.partition("=")[0] for line in text.splitlines()} | ONLY_IN_COMPOSE
    named = {
        name.removeprefix("KAFKA_").lower().replace("_", ".") for name in services["kafka"]["environment"]
    }
    assert named <= known


def test_services_and_people_find_the_broker(services: dict[str, Any]) -> None:
    environment = services["kafka"]["environment"]
    advertised = {
        name: address.removeprefix("//")
        for name, _, address in (
            part.partition(":") for part in environment["KAFKA_ADVERTISED_LISTENERS"].split(",")
        )
    }
    assert {services[name]["environment"]["KAFKA_BOOTSTRAP_SERVERS"] for name in APPS} == {
        advertised["INTERNAL"]
    }
    assert advertised["HOST"] == KafkaSettings.model_fields["bootstrap_servers"].default
    (published,) = services["kafka"]["ports"]
    assert published == f"127.0.0.1:9092:{advertised['HOST'].rpartition(':')[2]}"
    assert services["kafka"]["hostname"] == advertised["INTERNAL"].partition(":")[0]


def test_data_outlives_containers(compose: dict[str, Any], services: dict[str, Any]) -> None:
    for name, service in services.items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or source.startswith("."), f"{name}: {volume}"
    assert any(volume.startswith("kafka:") for volume in services["kafka"]["volumes"])
    for name in ("pair-builder", "curriculum-gate", "trainer"):
        folder = services[name]["environment"]["TUNESTREAM_ARTIFACTS"]
        assert f"artifacts:{folder}" in services[name]["volumes"]
        assert any(folder in words for words in dockerfile() if words[0] == "RUN"), "the user must own it"


def test_a_service_has_more_time_to_end_than_it_takes(services: dict[str, Any]) -> None:
    from tunestream.config.settings import ServiceSettings

    for name in APPS:
        grace = float(services[name]["stop_grace_period"].removesuffix("s"))
        assert grace > ServiceSettings.model_fields["shutdown_seconds"].default


def test_every_build_target_is_a_stage(services: dict[str, Any]) -> None:
    built = [service["build"] for service in services.values() if "build" in service]
    assert {build["target"] for build in built} == {"light", "trainer"}
    assert {build["target"] for build in built} <= stages()
    assert all((ROOT / build["dockerfile"]).is_file() for build in built)


def test_every_copied_path_is_in_the_context() -> None:
    ignored = [line for line in (ROOT / ".dockerignore").read_text("utf-8").split("\n") if line]
    for words in dockerfile():
        if words[0] != "COPY":
            continue
        if words[1].startswith("--from="):
            assert words[1].removeprefix("--from=") in stages()
            continue
        for source in words[1:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored or not any(fnmatch.fnmatch(source, rule) for rule in ignored), (
                source
            )


def test_every_extra_exists() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    text = (ROOT / "deploy/Dockerfile").read_text("utf-8")
    asked = [shlex.split(line) for line in text.splitlines() if "--extra" in line]
    named = {words[at + 1] for words in asked for at, word in enumerate(words) if word == "--extra"}
    assert named == {"services", "trl"}
    assert named <= project["optional-dependencies"].keys()


def test_images_do_not_run_as_root() -> None:
    users = {words[1] for words in dockerfile() if words[0] == "USER"}
    assert users == {"tunestream"}
