"""An experiment's arms as a table: what varies, what came of it, how long it took."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from tunestream.experiments.choosing import NoBest, best_arm
from tunestream.experiments.manifests import ArmManifest, ExperimentManifest, StageManifest
from tunestream.experiments.results import MetricEstimate, QaResult
from tunestream.experiments.stages import Stage
from tunestream.experiments.store import ExperimentStore

__all__ = ["ArmSummary", "Summary", "summarise", "to_csv", "to_markdown", "written"]

_CURVE: TypeAdapter[dict[str, float | None]] = TypeAdapter(dict[str, float | None])


@dataclass(frozen=True, slots=True)
class ArmSummary:
    """One arm.

    Attributes:
        arm: as its manifest has it.
        stages: the manifests of its complete stages.
        qa: what was judged; None before.
        curve: (step, loss) of the training, in order.
    """

    arm: ArmManifest
    stages: dict[Stage, StageManifest]
    qa: QaResult | None = None
    curve: list[tuple[float, float]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The arm's name."""
        return self.arm.name

    @property
    def status(self) -> str:
        """``complete``, ``failed``, ``running`` or ``waiting``."""
        found = {state.status for state in self.arm.stages.values()}
        if found <= {"complete"}:
            return "complete"
        return next((each for each in ("failed", "running") if each in found), "waiting")

    @property
    def seconds(self) -> float:
        """What its complete stages took, those that it shares with other arms included."""
        return sum(stage.seconds for stage in self.stages.values())

    @property
    def error(self) -> str | None:
        """Why it failed."""
        failed = (state.error for state in self.arm.stages.values() if state.status == "failed")
        return next(failed, None)

    def value(self, metric: str) -> MetricEstimate | None:
        """Return a metric of the QA, or one of the training, which has no interval."""
        if self.qa is not None and metric in self.qa.tuned:
            return self.qa.tuned[metric]
        trained = self.stages.get(Stage.FINETUNE)
        if trained is None or metric not in trained.metrics:
            return None
        return MetricEstimate(mean=trained.metrics[metric], low=None, high=None, rows=0)


@dataclass(frozen=True, slots=True)
class Summary:
    """All arms; ``best`` is the name of the best one by the experiment's metric, where one has it."""

    experiment: ExperimentManifest
    arms: list[ArmSummary]
    best: str | None

    @property
    def swept(self) -> list[str]:
        """The settings in which arms differ, by their dotted paths."""
        return list(dict.fromkeys(key for each in self.arms for key in each.arm.settings))

    @property
    def metrics(self) -> list[str]:
        """The metrics that an arm has: the experiment's first, then those of the QA, then the loss."""
        judged = [name for each in self.arms if each.qa for name in each.qa.tuned]
        wanted = dict.fromkeys([self.experiment.metric, *judged, "train_loss"])
        return [name for name in wanted if any(each.value(name) for each in self.arms)]


def summarise(store: ExperimentStore, experiment: ExperimentManifest) -> Summary:
    """Read what the stages of an experiment left."""
    arms = [_arm(store, arm) for arm in experiment.arms]
    try:
        best = best_arm(store, experiment).arm.name
    except NoBest:
        best = None
    return Summary(experiment, arms, best)


def written(value: MetricEstimate | None) -> str:
    """Write a value with its interval; nothing for a missing one."""
    if value is None:
        return ""
    if value.low is None or value.high is None:
        return _number(value.mean)
    return f"{_number(value.mean)} ({_number(value.low)} to {_number(value.high)})"


def to_csv(summary: Summary) -> str:
    """Return a line an arm; each metric with its interval in three columns."""
    table = io.StringIO()
    writer = csv.writer(table)
    names = [column for name in summary.metrics for column in (name, f"{name}_low", f"{name}_high")]
    writer.writerow(["arm", *summary.swept, "status", "seconds", *names, "best", "error"])
    for each in summary.arms:
        values = [each.value(name) for name in summary.metrics]
        ends = [end for value in values for end in (_ends(value))]
        settings = [each.arm.settings.get(key, "") for key in summary.swept]
        best = "yes" if each.name == summary.best else ""
        row = [each.name, *settings, each.status, f"{each.seconds:.1f}", *ends, best, each.error or ""]
        writer.writerow(row)
    return table.getvalue()


def to_markdown(summary: Summary) -> str:
    """Return a table for people; the best arm is bold."""
    header = ["arm", *summary.swept, "status", "seconds", *summary.metrics]
    lines = [_line(header), _line(["---"] * len(header))]
    for each in summary.arms:
        name = f"**{each.name}**" if each.name == summary.best else each.name
        settings = [str(each.arm.settings.get(key, "")) for key in summary.swept]
        values = [written(each.value(metric)) for metric in summary.metrics]
        lines.append(_line([name, *settings, each.status, f"{each.seconds:.1f}", *values]))
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _ends(value: MetricEstimate | None) -> Iterable[Any]:
    return ("", "", "") if value is None else (value.mean, value.low, value.high)


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _arm(store: ExperimentStore, arm: ArmManifest) -> ArmSummary:
    keys = {stage: state.key for stage, state in arm.stages.items() if state.status == "complete"}
    found = {stage: key for stage, key in keys.items() if key is not None and store.has(stage, key)}
    stages = {stage: store.stage(stage, key) for stage, key in found.items()}
    qa, curve = None, []
    if Stage.QA in found:
        folder = store.stage_dir(Stage.QA, found[Stage.QA])
        qa = QaResult.model_validate_json((folder / "metrics.json").read_bytes())
    if Stage.FINETUNE in found:
        path = store.stage_dir(Stage.FINETUNE, found[Stage.FINETUNE]) / "curve.jsonl"
        points = [_CURVE.validate_json(line) for line in path.read_bytes().splitlines()]
        curve = [(point["step"] or 0.0, loss) for point in points if (loss := point.get("loss")) is not None]
    return ArmSummary(arm, stages, qa, curve)
