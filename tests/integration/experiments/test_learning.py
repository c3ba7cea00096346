"""What the documents promise: a task is learnt, adapters are served, an experiment begins a loop."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.experiments.test_studies import run
from tunestream.config.experiment.loading import load_experiment
from tunestream.demo.game import optimal_moves, prompt, training_boards
from tunestream.experiments.samples import write_sample
from tunestream.experiments.stage_runner import Processes
from tunestream.experiments.stages import Stage

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

PAGE = Path(__file__).parents[3] / "docs" / "experiments.md"


def tunestream(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tunestream", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    return done


async def test_a_task_is_learnt_and_quantised_weights_cost_little(
    processes: Processes, tmp_path: Path
) -> None:
    file, *_ = write_sample("units", tmp_path)
    document = yaml.safe_load(file.read_text())
    document["model"]["quantize"] = [False, True]
    file.write_text(yaml.safe_dump(document))
    ran = await run(file, processes)
    plain, quantised = (ran.manifest(Stage.QA, arm).metrics["exact_match"] for arm in (0, 1))
    folder = ran.store.stage_dir(Stage.QA, ran.manifest(Stage.QA).key)
    result = json.loads((folder / "metrics.json").read_text())
    assert result["baseline"]["exact_match"]["mean"] < 0.2
    assert plain > 0.9
    assert quantised > plain - 0.05


def test_the_tutorial_runs_as_it_is_written(tmp_path: Path) -> None:
    section = PAGE.read_text(encoding="utf-8").split("## Tutorial")[1].split("## The file")[0]
    commands = [
        line.split()[1:]
        for block in re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
        for line in block.splitlines()
        if line.startswith("tunestream ")
    ]
    assert len(commands) == 8
    for command in commands:
        done = tunestream(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "units" / "adapter" / "adapter_config.json").is_file()
    assert load_experiment(tmp_path / "grid" / "experiment.yaml").save_dir == Path("grid/experiments")


def _tic_tac_toe(folder: Path) -> Path:
    made = subprocess.run(
        [sys.executable, "-m", "tunestream.demo.base_model", "--seed", "0", "--folder", str(folder / "base")],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [
        {"board": prompt(board), "move": str(min(optimal_moves(board)) + 1)} for board in training_boards()
    ]
    (folder / "boards.jsonl").write_text("\n".join(map(json.dumps, rows)))
    document: dict[str, Any] = {
        "save_dir": str(folder / "experiments"),
        "data": {
            "path": str(folder / "boards.jsonl"),
            "prompt": "{board}",
            "prompt_stub": "{move}",
            "train_size": 256,
            "test_size": 16,
        },
        "model": {"hf_model_ckpt": made.stdout.strip()},
        "training": {"training_args": {"per_device_train_batch_size": 64, "learning_rate": 1e-3}},
        "inference": {"max_new_tokens": 2},
    }
    file = folder / "opening.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


def test_an_experiment_begins_a_loop(tmp_path: Path) -> None:
    file = _tic_tac_toe(tmp_path)
    assert tunestream("experiment", "run", str(file), cwd=tmp_path).returncode == 0
    options = ("--base", "opening", "--save-dir", str(tmp_path / "experiments"), "--rounds", "1", "--json")
    done = tunestream("demo", *options, "--data", str(tmp_path / "demo"), cwd=tmp_path)
    assert json.loads(done.stdout), done.stderr
    (base,) = (tmp_path / "demo" / "models").iterdir()
    assert base.name.startswith("experiment-")
    assert (base / "model.safetensors").is_file()
