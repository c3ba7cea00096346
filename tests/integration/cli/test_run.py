"""``tunestream run`` on a real broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import Result

from tunestream.config.settings import KafkaSettings
from tunestream.streams.reading import RecordReader
from tunestream.streams.runs import RunDirectory

RUN = """\
run_id: game
trajectory_builder: {turn_timeout: 7s}
trainer:
  _type: trl
  model: {hf_model_ckpt: models/tiny, quantize: false}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(RUN)
    return path


def written(settings: KafkaSettings) -> int:
    async def count() -> int:
        async with RecordReader(settings, "runs", from_beginning=True) as reader:
            # Beside runs the topic holds which format the deployment writes.
            return len([record async for record in reader.to_end() if record.key != b"format"])

    return asyncio.run(count())


def test_apply_is_what_the_services_read(
    settings: KafkaSettings, file: Path, data: Callable[..., Any]
) -> None:
    applied = data("run", "apply", file)

    async def current() -> tuple[str | None, object]:
        async with RunDirectory(settings) as runs:
            config = runs.current("game")
            assert config is not None
            return runs.current_digest("game"), config.document()["trajectory_builder"]["turn_timeout"]

    assert applied["change"] == "created"
    assert asyncio.run(current()) == (applied["digest"], "7s")


def test_apply_twice_writes_once_and_a_change_is_seen(
    settings: KafkaSettings, file: Path, data: Callable[..., Any]
) -> None:
    first = data("run", "apply", file)
    assert data("run", "apply", file)["change"] == "unchanged"
    assert written(settings) == 2
    file.write_text(RUN.replace("7s", "8s"))
    changed = data("run", "apply", file)
    assert (changed["change"], changed["before"]) == ("changed", first["digest"])
    assert changed["digest"] != first["digest"]
    assert [row["digest"] for row in data("run", "list")] == [changed["digest"]]


def test_dry_run_writes_nothing(
    settings: KafkaSettings, file: Path, tunestream: Callable[..., Result]
) -> None:
    result = tunestream("run", "apply", file, "--dry-run")
    assert "would be created" in result.stderr
    assert written(settings) == 0


def test_show_of_a_file_and_of_an_applied_run_agree(
    settings: KafkaSettings, file: Path, data: Callable[..., Any], tunestream: Callable[..., Result]
) -> None:
    data("run", "apply", file)
    assert data("run", "show", "game") == data("run", "show", file)
    assert yaml.safe_load(tunestream("run", "show", "game").stdout) == data("run", "show", file)


def test_show_says_where_values_come_from(file: Path, data: Callable[..., Any]) -> None:
    rows = {row["path"]: row for row in data("run", "show", file, "--origin")}
    assert rows["trajectory_builder.turn_timeout"]["origin"].endswith("run.yaml:2")
    assert rows["trajectory_builder.max_pairs_per_turn"]["origin"] == "default"


def test_an_unknown_run_is_the_users_fault(
    settings: KafkaSettings, tunestream: Callable[..., Result]
) -> None:
    result = tunestream("run", "show", "no-such-run")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "there is no run 'no-such-run': it was never applied" in result.stderr


def test_without_topics_the_remedy_is_said(
    without_topics: KafkaSettings, file: Path, tunestream: Callable[..., Result]
) -> None:
    result = tunestream("run", "apply", file)
    assert result.exit_code == 1
    assert "tunestream topics apply" in result.stderr


def test_a_broker_that_is_away_is_try_again(
    monkeypatch: pytest.MonkeyPatch, file: Path, tunestream: Callable[..., Result]
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    result = tunestream("run", "apply", file)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "KAFKA_BOOTSTRAP_SERVERS" in result.stderr


def test_validate_names_every_problem(file: Path, tunestream: Callable[..., Result]) -> None:
    file.write_text(RUN.replace("turn_timeout", "turn_timeoot").replace("quantize", "quantise"))
    for_people = tunestream("run", "validate", file)
    assert (for_people.exit_code, for_people.stdout) == (1, "")
    assert "turn_timeoot" in for_people.stderr
    assert "quantise" in for_people.stderr
    for_machines = tunestream("run", "validate", file, "--json")
    assert for_machines.exit_code == 1
    assert len(json.loads(for_machines.stdout)["problems"]) == 2


def test_validate_and_schema(file: Path, data: Callable[..., Any], tunestream: Callable[..., Result]) -> None:
    assert data("run", "validate", file)["run_id"] == "game"
    assert "trajectory_builder" in json.loads(tunestream("run", "schema").stdout)["properties"]
