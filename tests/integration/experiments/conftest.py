"""One training worker and one model process for all experiments."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from tests.helpers.models import model_worker
from tests.helpers.tiny_model import COLD, WARM
from tests.helpers.training import tiny_model, trl_worker
from tunestream.experiments.models import ModelWorker
from tunestream.experiments.stage_runner import Processes
from tunestream.trainers.trl.backend import TRLBackend
from tunestream.trainers.worker.handle import WorkerHandle

__all__ = ["model_worker", "tiny_model", "trl_worker"]

MakeFile = Callable[..., Path]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def processes(trl_worker: WorkerHandle, model_worker: ModelWorker) -> AsyncIterator[Processes]:
    yield Processes(TRLBackend(worker=trl_worker), model_worker)


@pytest.fixture
def make_file(tmp_path: Path, tiny_model: Path) -> MakeFile:
    """Writes an experiment on letters, after which comes "red" or "blue"; sections are merged in."""

    def make(**sections: Any) -> Path:
        document: dict[str, Any] = {
            "save_dir": str(tmp_path / "experiments"),
            "data": {"train_size": 16, "test_size": 4, "prompt": "{letter} {n}", "prompt_stub": "{colour}"},
            "model": {"hf_model_ckpt": str(tiny_model)},
            "lora": {"r": 4},
            "training": {"training_args": {"per_device_train_batch_size": 16, "learning_rate": 1e-2}},
            "inference": {"max_new_tokens": 2},
            "qa": {"resamples": 100},
        }
        for name, section in sections.items():
            known = document.get(name)
            document[name] = (
                known | section if isinstance(known, dict) and isinstance(section, dict) else section
            )
        if "path" not in document["data"]:
            document["data"]["path"] = str(_write_rows(tmp_path / "rows.json"))
        file = tmp_path / "letters.yaml"
        file.write_text(yaml.safe_dump(document))
        return file

    return make


def letters(count: int) -> list[dict[str, str]]:
    """Rows with a letter, a digit, the colour that is right and the one that is wrong."""
    rng = random.Random(0)
    rows = []
    for _ in range(count):
        letter = rng.choice(WARM + COLD)
        right, wrong = ("red", "blue") if letter in WARM else ("blue", "red")
        rows.append({"letter": letter, "n": rng.choice("0123"), "colour": right, "wrong": wrong})
    return rows


def _write_rows(path: Path) -> Path:
    path.write_text(json.dumps(letters(20)))
    return path
