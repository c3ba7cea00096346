"""What tables of an experiment show."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.helpers.experiments import add_arm, experiment, failed_arm
from tunestream.experiments.manifests import ArmManifest, StageState
from tunestream.experiments.results import MetricEstimate
from tunestream.experiments.stages import Stage
from tunestream.experiments.store import ExperimentStore
from tunestream.experiments.summary import ArmSummary, summarise, to_csv, to_markdown, written


@pytest.fixture
def store(tmp_path: Path) -> ExperimentStore:
    return ExperimentStore(tmp_path)


def estimate(mean: float, low: float | None = None, high: float | None = None) -> MetricEstimate:
    return MetricEstimate(mean=mean, low=low, high=high, rows=3)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (estimate(0.12345), "0.123"),
        (estimate(1234.5), "1234"),
        (estimate(0.5, 0.25, 0.75), "0.5 (0.25 to 0.75)"),
    ],
)
def test_values_are_written_with_their_intervals(value: MetricEstimate | None, text: str) -> None:
    assert written(value) == text


def arm_with(*statuses: str) -> ArmSummary:
    stages = {
        stage: StageState.model_validate({"status": each})
        for stage, each in zip(Stage, statuses, strict=False)
    }
    return ArmSummary(ArmManifest(name="arm", settings={}, config={}, stages=stages), {})


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (("complete", "complete"), "complete"),
        (("complete", "failed", "skipped"), "failed"),
        (("complete", "running", "waiting"), "running"),
        (("complete", "waiting"), "waiting"),
    ],
)
def test_an_arm_is_as_far_as_its_stages(statuses: tuple[str, ...], expected: str) -> None:
    assert arm_with(*statuses).status == expected


def test_metrics_begin_with_the_experiments_own(store: ExperimentStore) -> None:
    arms = [add_arm(store, 0, {"x": 1}, exact=0.5), failed_arm(1, {"x": 2, "y": 3}, "no")]
    summary = summarise(store, experiment(arms, metric="rouge_score"))
    assert summary.metrics == ["rouge_score", "exact_match", "summary_length", "train_loss"]
    assert summary.swept == ["x", "y"]


def test_a_curve_leaves_out_steps_without_a_loss(store: ExperimentStore) -> None:
    arm = add_arm(store, 0, {}, exact=0.5)
    path = store.stage_dir(Stage.FINETUNE, "finetune-0") / "curve.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": null}\n{"step": 3, "eval_loss": 1.0}\n')
    assert summarise(store, experiment([arm])).arms[0].curve == [(1.0, 2.0)]


def test_text_that_would_break_a_table_is_escaped(store: ExperimentStore) -> None:
    arms = [add_arm(store, 0, {"x": "a|b\nc"}, exact=0.5), add_arm(store, 1, {"x": "d"}, exact=0.1)]
    summary = summarise(store, experiment(arms))
    assert "| a\\|b c |" in to_markdown(summary)
    first, second = csv.DictReader(to_csv(summary).splitlines(keepends=True))
    assert (first["x"], first["best"], second["best"]) == ("a|b\nc", "yes", "")
