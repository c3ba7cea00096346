"""What the stages of an experiment hand to one another.

Blocking functions, called in a thread with a request and told of progress by ``progress``::

    infer(request: InferenceRequest, *, progress: OnProgress, worker: ModelWorker | None) -> StageReport
    evaluate(request: QaRequest, *, progress: OnProgress, worker: ModelWorker | None) -> StageReport

They raise :class:`StageFailed` for what a user can mend. ``worker`` is the process that holds models;
without one, one is started where it is needed, and ended. Files of a save_dir::

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

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import Field

from tunestream.config.experiment.experiment import ExperimentInferenceConfig, QaConfig
from tunestream.config.run.model import ModelConfig
from tunestream.events.base import FiniteFloat, Wire
from tunestream.events.trajectories import Prompt

__all__ = [
    "PARENTS",
    "Arm",
    "ArmManifest",
    "ExperimentManifest",
    "Hardware",
    "InferenceRequest",
    "MetricEstimate",
    "ModelReference",
    "OnProgress",
    "QaRequest",
    "QaResult",
    "ResultRow",
    "Stage",
    "StageFailed",
    "StageManifest",
    "StageReport",
    "StageState",
    "TestBank",
    "TestRow",
]

OnProgress = Callable[[int, int], None]
"""Told how many rows or steps are done, and of how many."""


class Stage(StrEnum):
    """The stages, in order; ``baseline`` is the inference of the untuned model."""

    INGEST = "ingest"
    FINETUNE = "finetune"
    INFERENCE = "inference"
    BASELINE = "baseline"
    QA = "qa"


PARENTS: Final[Mapping[Stage, tuple[Stage, ...]]] = MappingProxyType(
    {
        Stage.INGEST: (),
        Stage.FINETUNE: (Stage.INGEST,),
        Stage.INFERENCE: (Stage.INGEST, Stage.FINETUNE),
        Stage.BASELINE: (Stage.INGEST,),
        Stage.QA: (Stage.INFERENCE, Stage.BASELINE),
    }
)
"""Stage → the stages whose outputs it reads."""


class StageFailed(Exception):
    """A stage cannot be run.

    Attributes:
        code: the reason's stable name, e.g. ``missing_column``.
        message: for people: what is wrong and what to do about it.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class TestRow(Wire):
    """One line of ``test.jsonl``."""

    __test__ = False

    id: str
    prompt: Prompt = Field(
        description="a text is one user message where the model has a chat template, else plain text"
    )
    ground_truth: str


class ResultRow(TestRow):
    """One line of ``results.jsonl``; ``results.csv`` has Prompt, Ground Truth and Predicted."""

    predicted: str
    error: str | None = Field(default=None, description="why there is no answer; `predicted` is empty then")


class StageReport(Wire):
    """What a stage tells beside its files; it goes into the stage's manifest."""

    metrics: dict[str, FiniteFloat] = Field(default_factory=dict)
    details: dict[str, Any] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list, description="what people should know")


class ModelReference(Wire):
    """A model: the base of the configuration, and what was trained on it."""

    base: ModelConfig
    weights: Path | None = Field(default=None, description="folder of an adapter, or of full weights")
    kind: Literal["adapter", "full"] | None = Field(default=None, description="what `weights` holds")
    name: str = Field(description="a name of its own, e.g. under which a server loads the adapter")


class InferenceRequest(Wire):
    """Answer every row of ``test``.

    Written to ``output``: ``results.jsonl`` (:class:`ResultRow`, in the order of ``test``) and
    ``results.csv``. The folder may hold what an interrupted call left; rows answered there are not asked
    again, and the results are those of a call that was not interrupted.
    """

    test: Path
    model: ModelReference
    config: ExperimentInferenceConfig
    seed: int
    output: Path


class MetricEstimate(Wire):
    """The mean over ``rows`` rows, with its bootstrap interval; rows of one prompt are drawn together.

    A single prompt tells nothing about others: its interval has no ends.
    """

    mean: FiniteFloat
    low: FiniteFloat | None
    high: FiniteFloat | None
    rows: int


class TestBank(Wire):
    """One CSV bank: how many of its tests passed, with the tuned model's answers."""

    __test__ = False

    name: str
    passed: int
    failed: int


class QaResult(Wire):
    """``metrics.json``: each metric of the tuned model, of the baseline, and paired tuned - baseline."""

    tuned: dict[str, MetricEstimate]
    baseline: dict[str, MetricEstimate] = Field(default_factory=dict)
    difference: dict[str, MetricEstimate] = Field(default_factory=dict)
    failures: dict[str, dict[str, int]] = Field(
        default_factory=dict, description="metric → why it could not be taken → of how many answers"
    )
    tests: list[TestBank] = Field(default_factory=list)


class QaRequest(Wire):
    """Judge results.

    Written to ``output``: ``scores.jsonl`` (a line a row: id, and the metrics of tuned and baseline),
    ``metrics.json`` (:class:`QaResult`), and ``<bank>_results.csv`` for each bank of the test suite.
    ``generator`` answers the prompts of the banks.
    """

    tuned: Path = Field(description="results.jsonl of the tuned model")
    baseline: Path | None = Field(default=None, description="results.jsonl of the untuned model")
    config: QaConfig
    seed: int
    output: Path
    generator: ModelReference
    inference: ExperimentInferenceConfig


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


class Arm(Wire):
    """One point of the grid."""

    name: str = Field(description="arm-000, arm-001, ... in the order of the grid")
    settings: dict[str, Any] = Field(description="dotted path of a swept key → its value in this arm")
    config: dict[str, Any] = Field(description="the arm's configuration with every default")


class ArmManifest(Arm):
    """An arm and where its stages are."""

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
