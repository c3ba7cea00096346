from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner, Result

from tunestream.cli import app
from tunestream.streams.embedded.ports import HOST, answers, free_port
from tunestream.topics import CATALOGUE


@pytest.fixture
def environment(kafka: str, topic_prefix: str) -> dict[str, str]:
    return {"KAFKA_BOOTSTRAP_SERVERS": kafka, "TUNESTREAM_KAFKA_TOPIC_PREFIX": topic_prefix}


def topics(environment: dict[str, str], *arguments: str) -> Result:
    return CliRunner().invoke(app, ["topics", *arguments], env=environment)


def test_apply_list_and_diff(environment: dict[str, str], topic_prefix: str) -> None:
    names = [topic_prefix + entry.name for entry in CATALOGUE]

    tried = topics(environment, "apply", "--dry-run", "--json", "--partitions", "2")
    assert [change["name"] for change in json.loads(tried.stdout)] == names
    assert json.loads(topics(environment, "list", "--json").stdout) == []

    assert topics(environment, "apply", "--partitions", "2").exit_code == 0
    listed = json.loads(topics(environment, "list", "--json").stdout)
    assert [state["name"] for state in listed] == names
    assert {state["partitions"] for state in listed} == {2}
    assert json.loads(topics(environment, "diff", "--json", "--partitions", "2").stdout) == []


def test_another_partition_count_is_the_users_fault(environment: dict[str, str]) -> None:
    topics(environment, "apply", "--partitions", "1")
    refused = topics(environment, "apply", "--partitions", "4")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "has 1 partitions, not 4" in refused.stderr
    assert refused.stderr.count("new topic prefix") == 1
    differing = json.loads(topics(environment, "diff", "--json", "--partitions", "4").stdout)
    assert {change["action"] for change in differing} == {"refuse"}
    by_environment = topics(environment | {"TUNESTREAM_KAFKA_PARTITIONS": "4"}, "apply")
    assert "has 1 partitions, not 4" in by_environment.stderr


def test_a_count_that_nobody_asks_for_is_the_deployments_own(environment: dict[str, str]) -> None:
    topics(environment, "apply", "--partitions", "3")
    assert json.loads(topics(environment, "diff", "--json").stdout) == []
    again = topics(environment, "apply")
    assert (again.exit_code, again.stderr.count("refused")) == (0, 0)


def test_usage_and_broker_away_have_their_exit_codes(environment: dict[str, str]) -> None:
    assert topics(environment, "apply", "--partitions", "0").exit_code == 2
    away = topics(environment | {"KAFKA_BOOTSTRAP_SERVERS": f"{HOST}:{free_port()}"}, "list")
    assert away.exit_code == 3
    assert "tunestream kafka" in away.stderr


def test_kafka_runs_until_it_is_told_to_stop(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tunestream", "kafka", "--json", "--port", "0", "--data", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        port = int(told["bootstrap_servers"].split(":")[1])
        assert answers(port)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=90) == 0
    assert not psutil.pid_exists(told["pid"])


def test_kafka_ends_with_its_broker(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tunestream", "kafka", "--json", "--port", "0", "--data", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        psutil.Process(json.loads(process.stdout.readline())["pid"]).kill()
        _, errors = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "The broker ended with exit code -9" in errors
