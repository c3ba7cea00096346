"""Requests of the inference and QA stages, and processes that carry them out to be killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunestream.config.experiment.experiment import ExperimentInferenceConfig, QaConfig
from tunestream.config.run.model import ModelConfig
from tunestream.experiments.requests import InferenceRequest, ModelReference, QaRequest
from tunestream.experiments.results import ResultRow, TestRow

ROOT = Path(__file__).parents[2]
_INFER = """
import sys
from pathlib import Path
from tunestream.experiments.inference import infer
from tunestream.experiments.requests import InferenceRequest
infer(InferenceRequest.model_validate_json(Path(sys.argv[1]).read_bytes()), progress=lambda *_: None)
"""
_EVALUATE = """
import sys
from pathlib import Path
from tunestream.experiments.qa import evaluate
from tunestream.experiments.requests import QaRequest
evaluate(QaRequest.model_validate_json(Path(sys.argv[1]).read_bytes()), progress=lambda *_: None)
"""


def no_progress(done: int, total: int) -> None:
    """Take no notice."""


def base_model(model: Path | str = "base", **settings: Any) -> ModelReference:
    """The untuned model."""
    return ModelReference(base=ModelConfig(hf_model_ckpt=str(model), **settings), name="base")


def rows_of(prompts: Sequence[str], *, truth: str = "red") -> list[TestRow]:
    """Rows r0, r1, ... of these prompts."""
    return [
        TestRow(id=f"r{number}", prompt=prompt, ground_truth=truth) for number, prompt in enumerate(prompts)
    ]


def inference_request(
    folder: Path,
    prompts: Sequence[str],
    *,
    model: ModelReference | None = None,
    seed: int = 7,
    output: str = "output",
    **config: Any,
) -> InferenceRequest:
    """Ask these prompts."""
    test = folder / "test.jsonl"
    test.write_bytes(b"".join(row.to_json() + b"\n" for row in rows_of(prompts)))
    return InferenceRequest(
        test=test,
        model=model or base_model(),
        config=ExperimentInferenceConfig(**config),
        seed=seed,
        output=folder / output,
    )


def qa_request(
    folder: Path,
    tuned: Sequence[ResultRow],
    baseline: Sequence[ResultRow] | None = None,
    *,
    generator: ModelReference | None = None,
    inference: dict[str, Any] | None = None,
    **config: Any,
) -> QaRequest:
    """Judge these results."""
    (folder / "qa").mkdir(exist_ok=True)
    return QaRequest(
        tuned=_results(folder / "tuned.jsonl", tuned),
        baseline=None if baseline is None else _results(folder / "baseline.jsonl", baseline),
        config=QaConfig(**config),
        seed=3,
        output=folder / "qa",
        generator=generator or base_model(),
        inference=ExperimentInferenceConfig(**(inference or {})),
    )


def start_stage(
    request: InferenceRequest | QaRequest, *, path: Path | None = None
) -> subprocess.Popen[bytes]:
    """Carry a request out in a process of its own; ``path`` holds installed packages."""
    file = request.output.parent / f"{type(request).__name__}.json"
    file.write_text(request.model_dump_json(), encoding="utf-8")
    code = _INFER if isinstance(request, InferenceRequest) else _EVALUATE
    paths = [str(each) for each in (ROOT / "shared", ROOT, path) if each]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen([sys.executable, "-c", code, str(file)], env=environment)


def _results(path: Path, rows: Sequence[ResultRow]) -> Path:
    path.write_bytes(b"".join(row.to_json() + b"\n" for row in rows))
    return path
