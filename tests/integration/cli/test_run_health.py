"""A run whose backend cannot train is refused before anything is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import Result

from tests.helpers.fake_nemo import FakeNeMo, nemo_config
from tests.helpers.services import free_port
from tests.integration.cli.test_run import written
from tunestream.config.settings import KafkaSettings


@pytest.fixture(scope="module")
def nemo() -> Iterator[FakeNeMo]:
    fake = FakeNeMo().start()
    yield fake
    fake.stop()


def run_file(folder: Path, trainer: dict[str, object]) -> Path:
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump({"run_id": "health", "trainer": trainer}))
    return file


def test_a_run_is_applied_when_its_backend_can_train(
    settings: KafkaSettings, nemo: FakeNeMo, tmp_path: Path, tunestream: Callable[..., Result]
) -> None:
    section = nemo_config(nemo).model_dump(mode="json")
    away = f"http://127.0.0.1:{free_port()}"
    file = run_file(tmp_path, section | {"entity_host": away})
    refused = tunestream("run", "apply", file)
    assert (refused.exit_code, written(settings)) == (3, 0)
    assert "the NeMo services cannot be reached" in refused.stderr
    assert "--no-health-check" in refused.stderr
    assert tunestream("run", "apply", file, "--no-health-check").exit_code == 0
    assert written(settings) == 2

    file = run_file(tmp_path, section)
    nemo.state.token = "secret"
    refused = tunestream("run", "apply", file)
    assert (refused.exit_code, written(settings)) == (1, 2)
    assert "trainer.api_key_env" in refused.stderr
    nemo.state.token = None
    assert tunestream("run", "apply", file, "--dry-run").exit_code == 0
    assert nemo.asked("^(POST|PUT|PATCH)") == 0, "asking changes nothing"
    assert tunestream("run", "apply", file).exit_code == 0
    assert written(settings) == 4


@pytest.mark.parametrize(
    ("model", "reason"),
    [("./nowhere", "no folder of this machine"), ("{folder}", "has no config.json")],
)
def test_validate_looks_for_the_model(
    tmp_path: Path, model: str, reason: str, tunestream: Callable[..., Result]
) -> None:
    name = model.format(folder=tmp_path)
    file = run_file(tmp_path, {"_type": "trl", "model": {"hf_model_ckpt": name}})
    assert tunestream("run", "validate", file).exit_code == 0
    result = tunestream("run", "validate", file, "--check-backend", "--json")
    assert result.exit_code == 1
    [problem] = json.loads(result.stdout)["problems"]
    assert problem["path"] == "trainer"
    assert reason in problem["message"]


def test_a_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tunestream: Callable[..., Result]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else object())
    file = run_file(tmp_path, {"_type": "trl", "model": {"hf_model_ckpt": "owner/model"}})
    result = tunestream("run", "validate", file, "--check-backend")
    assert result.exit_code == 1
    assert "needs torch: pip install 'tunestream[trl]'" in result.stderr
