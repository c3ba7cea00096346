"""Reports of experiments: pages that need nothing beside themselves, tables and pictures."""

from __future__ import annotations

from pathlib import Path

from tunestream.experiments.arm_page import arm_page
from tunestream.experiments.manifests import ExperimentManifest
from tunestream.experiments.plots import draw_curves, draw_metric
from tunestream.experiments.store import ExperimentStore, write_atomically
from tunestream.experiments.study_page import arm_file, study_page
from tunestream.experiments.summary import Summary, summarise, to_csv, to_markdown
from tunestream.reporting.plots import write_png

__all__ = ["write_report"]


def write_report(store: ExperimentStore, experiment: ExperimentManifest) -> Path:
    """Write the report of an experiment beside its manifest, and return the page.

    These are ``report.html``, ``summary.csv``, ``summary.md`` and the pictures ``metric.png`` and
    ``curves.png``; of a study also a page for each arm.
    """
    summary = summarise(store, experiment)
    folder = store.experiment_dir(experiment.id)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "summary.csv", to_csv(summary))
    write_atomically(folder / "summary.md", to_markdown(summary))
    _write_pictures(summary, folder)
    page = folder / "report.html"
    if len(summary.arms) == 1:
        write_atomically(page, arm_page(store, experiment, summary.arms[0], experiment.name))
        return page
    for arm in summary.arms:
        text = arm_page(store, experiment, arm, f"{experiment.name} · {arm.name}")
        write_atomically(folder / arm_file(arm), text)
    write_atomically(page, study_page(summary))
    return page


def _write_pictures(summary: Summary, folder: Path) -> None:
    metric = draw_metric(summary, summary.experiment.metric)
    curves = draw_curves(summary.arms, summary.best)
    for name, figure in (("metric.png", metric), ("curves.png", curves)):
        if figure is not None:
            write_png(figure, folder / name)
