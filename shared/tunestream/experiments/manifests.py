"""Manifests of experiments and of their stages.

The files of a ``save_dir``::

experiments/<id>/experiment.json    ExperimentManifest; beside it summary.csv, summary.md, report.html
stages/<stage>/<key>/manifest.json        StageManifest, beside the stage's outputs:
ingest/…    train.jsonl validation.jsonl (dataset rows) test.jsonl (TestRow) report.json
finetune/…  weights/ curve.jsonl ({"step", "loss", …} a line) result.json (TrainingResult)
inference/… baseline/…  results.jsonl results.csv
qa/…        scores.jsonl metrics.json (QaResult) <bank>_results.csv
work/                                     what interrupted stages left
artifacts/                                the trainer's store: datasets, weights, checkpoints
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tunestream.events.base import FiniteFloat, Wire
from tunestream.experiments.stages import Stage

__all__ = ["ArmManifest", "ExperimentManifest", "Hardware", "StageManifest", "StageState"]


class Hardware(Wire):
    """What a stage ran on."""

    machine: str
    system: str
    cores: int
    memory: int | None = Field(default=None, description="bytes")
    accelerators: list[str] = Field(default_factory=list)


class StageManifest(Wire):
    """``manifest.json`` of a finished stage."""

    stage: Stage
    key: str = Field(description="sha256 of the inputs")
    inputs: dict[str, Any] = Field(description="exactly what the stage depends on")
    outputs: dict[str, str] = Field(description="file → sha256")
    metrics: dict[str, FiniteFloat] = Field(default_factory=dict)
    details: dict[str, Any] = Field(default_factory=dict, description="the stage's own report")
    notes: list[str] = Field(default_factory=list, description="what people should know")
    seeds: dict[str, int] = Field(default_factory=dict)
    versions: dict[str, str]
    hardware: Hardware
    started: str = Field(description="ISO 8601")
    seconds: FiniteFloat
    attempts: int = 1


class StageState(Wire):
    """Where a stage of an arm is; ``key`` is known once its parents are complete."""

    status: Literal["waiting", "running", "complete", "failed", "skipped"] = "waiting"
    key: str | None = None
    reused: bool = Field(default=False, description="it was complete before this run")
    error: str | None = None


class ArmManifest(Wire):
    """One point of the grid, and where its stages are."""

    name: str = Field(description="arm-000, arm-001, ... in the order of the grid")
    settings: dict[str, Any] = Field(description="dotted path of a swept key → its value in this arm")
    config: dict[str, Any] = Field(description="the arm's configuration with every default")
    stages: dict[Stage, StageState]


class ExperimentManifest(Wire):
    """``experiment.json``: an experiment or a study, and how far it is."""

    id: str
    name: str
    created: str = Field(description="ISO 8601")
    source: str = Field(description="the file's name")
    text: str = Field(description="the file as it was")
    metric: str
    minimises: bool
    arms: list[ArmManifest]
