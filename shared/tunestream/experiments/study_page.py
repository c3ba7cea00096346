"""The page of a study: its arms beside one another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tunestream.experiments.plots import draw_curves, draw_metric
from tunestream.experiments.summary import ArmSummary, Summary, written
from tunestream.reporting.html import render_page
from tunestream.reporting.plots import svg_of

__all__ = ["arm_file", "study_page"]


def arm_file(arm: ArmSummary) -> str:
    """Return the file name of an arm's own page."""
    return f"report-{arm.name}.html"


def study_page(summary: Summary) -> str:
    """Return the page as HTML."""
    experiment = summary.experiment
    best = next((arm for arm in summary.arms if arm.name == summary.best), None)
    counts = Counter(arm.status for arm in summary.arms)
    return render_page(
        "tunestream.experiments",
        "study.html.j2",
        title=experiment.name,
        status=next((each for each in ("failed", "running", "waiting") if each in counts), "complete"),
        word=", ".join(f"{count} {status}" for status, count in counts.items()),
        sentence=_sentence(experiment.metric, best),
        tiles=_tiles(summary, best),
        experiment=experiment,
        summary=summary,
        settings=_short_names(summary.swept),
        failures=[f"{arm.name}: {arm.error}" for arm in summary.arms if arm.error],
        pictures=_pictures(summary),
        file_of=arm_file,
        written=written,
    )


def _sentence(metric: str, best: ArmSummary | None) -> str:
    if best is None:
        return "No arm has a value to compare."
    settings = ", ".join(f"{key} = {value}" for key, value in best.arm.settings.items())
    return f"By {metric} the best arm is {best.name}: {settings}."


def _tiles(summary: Summary, best: ArmSummary | None) -> list[tuple[str, str]]:
    seconds = {stage.key: stage.seconds for arm in summary.arms for stage in arm.stages.values()}
    tiles = [(str(len(summary.arms)), "arms"), (f"{sum(seconds.values()):.0f} s", "in all stages")]
    if best is None:
        return tiles
    value = best.value(summary.experiment.metric)
    return [(best.name, "best arm"), (written(value), summary.experiment.metric), *tiles]


def _short_names(paths: Sequence[str]) -> list[str]:
    """Return the last part of each path, or the whole path where two end alike."""
    counts = Counter(path.rpartition(".")[2] for path in paths)
    return [last if counts[last := path.rpartition(".")[2]] == 1 else path for path in paths]


def _pictures(summary: Summary) -> dict[str, str | dict[str, str] | None]:
    wanted = summary.experiment.metric
    figures = {name: draw_metric(summary, name) for name in dict.fromkeys([wanted, *summary.metrics])}
    metrics = {name: svg_of(figure) for name, figure in figures.items() if figure is not None}
    curves = draw_curves(summary.arms, summary.best)
    return {
        "metric": metrics.pop(wanted, None),
        "curves": svg_of(curves) if curves is not None else None,
        "others": metrics,
    }
