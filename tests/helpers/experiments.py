"""Experiments as their stages leave them, written without running one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunestream.config.experiment.experiment import Config
from tunestream.experiments.manifests import (
    ArmManifest,
    ExperimentManifest,
    Hardware,
    StageManifest,
    StageState,
)
from tunestream.experiments.results import MetricEstimate, QaResult, ResultRow, TestBank
from tunestream.experiments.stages import Stage
from tunestream.experiments.store import ExperimentStore

TEXT = "data: {path: sums.csv}\n"


def near(mean: float, *, half: float = 0.06) -> MetricEstimate:
    """A value with an interval about it."""
    return MetricEstimate(mean=mean, low=mean - half, high=mean + half, rows=80)


def add_arm(
    store: ExperimentStore,
    number: int,
    settings: Mapping[str, Any],
    *,
    exact: float,
    curve: Sequence[float] = (3.1, 1.9, 1.2, 0.9, 0.8),
    question: str = "1 + 1 = ?",
    note: str = "bf16 needs a GPU and was off",
) -> ArmManifest:
    """Write the finished stages of one arm."""
    results = [
        ResultRow(id=f"r{row}", prompt=question, ground_truth="2", predicted="2" if row % 3 else "3")
        for row in range(20)
    ]
    lines = "".join(row.model_dump_json() + "\n" for row in results)
    qa = QaResult(
        tuned={"exact_match": near(exact), "rouge_score": near(exact - 0.1), "summary_length": near(4.2)},
        baseline={"exact_match": near(0.1), "rouge_score": near(0.2), "summary_length": near(31.0)},
        difference={"exact_match": near(exact - 0.1), "rouge_score": near(exact - 0.3)},
        failures={"word_overlap": {"ValueError: the ground truth has no word that counts": 3}},
        tests=[TestBank(name="json", passed=4, failed=1)],
    )
    steps = [{"step": float(step), "loss": loss} for step, loss in enumerate(curve, 1)]
    files = {
        Stage.INGEST: {"test.jsonl": ""},
        Stage.FINETUNE: {"curve.jsonl": "".join(json.dumps(step) + "\n" for step in steps)},
        Stage.INFERENCE: {"results.jsonl": lines},
        Stage.BASELINE: {"results.jsonl": lines},
        Stage.QA: {"metrics.json": qa.model_dump_json()},
    }
    metrics = {
        Stage.FINETUNE: {"train_loss": curve[-1], "rows": 320.0},
        Stage.QA: {name: value.mean for name, value in qa.tuned.items()},
    }
    shared = {Stage.INGEST, Stage.BASELINE}
    stages = {}
    for stage, written in files.items():
        key = f"{stage}-{'shared' if stage in shared else number}"
        if not store.has(stage, key):
            _finish(store, stage, key, written, metrics.get(stage, {}), [note] if stage not in shared else [])
        stages[stage] = StageState(status="complete", key=key, reused=stage in shared and number > 0)
    return ArmManifest(name=f"arm-{number:03d}", settings=dict(settings), config=_config(), stages=stages)


def failed_arm(number: int, settings: Mapping[str, Any], error: str) -> ArmManifest:
    """An arm whose training failed."""
    stages = {stage: StageState(status="skipped", error="finetune failed") for stage in Stage}
    stages[Stage.INGEST] = StageState(status="complete", key="ingest-shared", reused=True)
    stages[Stage.FINETUNE] = StageState(status="failed", key=f"finetune-{number}", error=error)
    return ArmManifest(name=f"arm-{number:03d}", settings=dict(settings), config=_config(), stages=stages)


def experiment(
    arms: list[ArmManifest], *, name: str = "sums", metric: str = "exact_match"
) -> ExperimentManifest:
    """The experiment of these arms."""
    return ExperimentManifest(
        id="0123456789abcdef",
        name=name,
        created="2026-01-01T00:00:00+00:00",
        source="experiment.yaml",
        text=TEXT,
        metric=metric,
        minimises="loss" in metric,
        arms=arms,
    )


def _config() -> dict[str, Any]:
    sections = {"data": {"path": "sums.csv", "prompt": "{q}", "prompt_stub": "{a}"}}
    return Config.model_validate({**sections, "model": {"hf_model_ckpt": "models/tiny"}}).document()


def _finish(
    store: ExperimentStore,
    stage: Stage,
    key: str,
    files: Mapping[str, str],
    metrics: Mapping[str, float],
    notes: list[str],
) -> Path:
    work = store.work_dir(stage, key)
    work.mkdir(parents=True)
    for name, content in files.items():
        (work / name).write_text(content, encoding="utf-8")
    manifest = StageManifest(
        stage=stage,
        key=key,
        inputs={},
        outputs=dict.fromkeys(files, "0" * 64),
        metrics=dict(metrics),
        notes=notes,
        seeds={"seed": 42},
        versions={"python": "3.11.7", "tunestream": "0.1.0"},
        hardware=Hardware(machine="x86_64", system="Linux", cores=2, memory=8 << 30),
        started="2026-01-01T00:00:00+00:00",
        seconds=2.5,
    )
    return store.finish(manifest)
