"""The page of one arm: what came of it, with examples of its answers, and what it ran with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import yaml

from tunestream.experiments.inference import RESULTS
from tunestream.experiments.journal import read_lines
from tunestream.experiments.manifests import ExperimentManifest
from tunestream.experiments.plots import draw_comparison, draw_curves
from tunestream.experiments.results import MetricEstimate, QaResult, ResultRow
from tunestream.experiments.stages import Stage
from tunestream.experiments.store import ExperimentStore
from tunestream.experiments.summary import ArmSummary, written
from tunestream.reporting.html import render_page
from tunestream.reporting.plots import svg_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["arm_page"]

_EXAMPLES: Final = 12  # answers that are shown
_LONGEST: Final = 600  # characters of a shown text
_TRAINED: Final = (("rows", ",.0f", "training rows"), ("train_loss", ".3f", "training loss"))


@dataclass(frozen=True, slots=True)
class _Metric:
    """A metric as it is shown; ``apart`` when the interval of the difference leaves out 0."""

    name: str
    baseline: str
    tuned: str
    difference: str
    apart: bool
    not_taken: str


@dataclass(frozen=True, slots=True)
class _Answer:
    right: bool
    text: str


@dataclass(frozen=True, slots=True)
class _Row:
    prompt: str
    ground_truth: str
    baseline: _Answer | None
    tuned: _Answer


def arm_page(store: ExperimentStore, experiment: ExperimentManifest, arm: ArmSummary, title: str) -> str:
    """Return the page as HTML.

    Args:
        store: where the arm's stages are.
        experiment: that the arm belongs to.
        arm: whose page it is.
        title: of the page.
    """
    config = arm.arm.config
    tuned = _results(store, arm, Stage.INFERENCE)
    swept = [f"{key} = {value}" for key, value in arm.arm.settings.items()]
    return render_page(
        "tunestream.experiments",
        "arm.html.j2",
        title=title,
        status=arm.status,
        word=arm.status,
        sentence=", ".join([str(config["model"]["hf_model_ckpt"]), *swept]),
        tiles=_tiles(arm),
        experiment=experiment,
        error=arm.error,
        comparison=_svg(draw_comparison(arm)),
        metrics=_metrics(arm.qa) if arm.qa else [],
        tests=[(bank.name, bank.passed, bank.failed) for bank in arm.qa.tests] if arm.qa else [],
        curve=_svg(draw_curves([arm], None)),
        answers=_rows(tuned, _results(store, arm, Stage.BASELINE)),
        answered=len(tuned),
        results=RESULTS,
        notes=[note for stage in arm.stages.values() for note in stage.notes],
        stages=_stages(arm),
        environment=_environment(arm) if arm.stages else [],
        settings=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
    )


def _svg(figure: Figure | None) -> str | None:
    return svg_of(figure) if figure is not None else None


def _tiles(arm: ArmSummary) -> list[tuple[str, str]]:
    tiles = []
    if arm.qa is not None and (exact := arm.qa.tuned.get("exact_match")) is not None:
        before = arm.qa.baseline.get("exact_match")
        value = f"{before.mean:.1%} → {exact.mean:.1%}" if before else f"{exact.mean:.1%}"
        tiles += [(value, "exact match"), (f"{exact.rows:,}", "test rows")]
    trained = arm.stages.get(Stage.FINETUNE)
    if trained is not None:
        known = trained.metrics
        tiles += [(f"{known[name]:{form}}", label) for name, form, label in _TRAINED if name in known]
    return [*tiles, (f"{arm.seconds:.1f} s", "in all stages")]


def _metrics(qa: QaResult) -> list[_Metric]:
    return [
        _Metric(
            name=name,
            baseline=written(qa.baseline.get(name)),
            tuned=written(qa.tuned.get(name)),
            difference=written(qa.difference.get(name)),
            apart=_is_apart(qa.difference.get(name)),
            not_taken="; ".join(
                f"{count} without: {reason}" for reason, count in qa.failures.get(name, {}).items()
            ),
        )
        for name in dict.fromkeys([*qa.tuned, *qa.baseline, *qa.failures])
    ]


def _is_apart(difference: MetricEstimate | None) -> bool:
    if difference is None or difference.low is None or difference.high is None:
        return False
    return difference.low > 0 or difference.high < 0


def _results(store: ExperimentStore, arm: ArmSummary, stage: Stage) -> list[ResultRow]:
    if stage not in arm.stages:
        return []
    return read_lines(store.stage_dir(stage, arm.stages[stage].key) / RESULTS, ResultRow)


def _rows(tuned: list[ResultRow], baseline: list[ResultRow]) -> list[_Row]:
    before = {row.id: _answer(row) for row in baseline}
    return [
        _Row(_shown(_prompt(row)), _shown(row.ground_truth), before.get(row.id), _answer(row))
        for row in tuned[:_EXAMPLES]
    ]


def _answer(row: ResultRow) -> _Answer:
    text = f"no answer: {row.error}" if row.error else row.predicted
    return _Answer(row.predicted.strip() == row.ground_truth.strip(), _shown(text))


def _prompt(row: ResultRow) -> str:
    if isinstance(row.prompt, str):
        return row.prompt
    return "\n".join(f"{message.role}: {message.content}" for message in row.prompt)


def _shown(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def _stages(arm: ArmSummary) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for stage, state in arm.arm.stages.items():
        made = arm.stages.get(stage)
        status = "complete, used again" if state.reused and state.status == "complete" else state.status
        seconds, attempts = (f"{made.seconds:.1f}", str(made.attempts)) if made else ("", "")
        rows.append((str(stage), status, seconds, attempts, (state.key or "")[:16], state.error or ""))
    return rows


def _environment(arm: ArmSummary) -> list[tuple[str, str]]:
    made = list(arm.stages.values())
    hardware = made[-1].hardware
    memory = f", {hardware.memory / 2**30:.0f} GiB" if hardware.memory else ""
    machine = [f"{hardware.system}, {hardware.cores} cores{memory}", *hardware.accelerators]
    seeds = {f"{each.stage} {name}": seed for each in made for name, seed in each.seeds.items()}
    return [
        ("machine", ", ".join(machine)),
        ("versions", ", ".join(f"{name} {version}" for name, version in made[-1].versions.items())),
        ("seeds", ", ".join(f"{name} {seed}" for name, seed in seeds.items())),
        ("started", made[0].started),
    ]
