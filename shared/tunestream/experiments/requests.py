"""What the inference and QA stages are asked for, and what every stage reports.

Both stages are blocking functions, called in a thread::

    infer(request: InferenceRequest, *, progress: OnProgress, worker: ModelWorker | None) -> StageReport
    evaluate(request: QaRequest, *, progress: OnProgress, worker: ModelWorker | None) -> StageReport

They raise :class:`~tunestream.experiments.stages.StageFailed` for what a user can mend. ``worker`` is the
process that holds models; without one, a process is started where it is needed, and ended.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tunestream.config.experiment.experiment import ExperimentInferenceConfig, QaConfig
from tunestream.config.run.model import ModelConfig
from tunestream.events.base import FiniteFloat, Wire

__all__ = ["InferenceRequest", "ModelReference", "QaRequest", "StageReport"]


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


class StageReport(Wire):
    """What a stage reports beside its files; it goes into the stage's manifest."""

    metrics: dict[str, FiniteFloat] = Field(default_factory=dict)
    details: dict[str, Any] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list, description="what people should know")
