"""``tunestream experiment list``, ``show``, ``compare`` and ``gc``: what lies in a save_dir."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.markup import escape

from tunestream.cli.errors import Failure
from tunestream.cli.experiment.options import SAVE_DIR, ExperimentArgument, MetricOption, SaveDirOption
from tunestream.cli.output import DryRunOption, JsonOption, console, emit, note, table
from tunestream.cli.output import show as show_rows
from tunestream.experiments.choosing import Best, NoBest, best_arm, metrics_of
from tunestream.experiments.manifests import ArmManifest, ExperimentManifest
from tunestream.experiments.report import write_report
from tunestream.experiments.stages import Stage
from tunestream.experiments.store import ExperimentStore, NoSuchExperiment
from tunestream.experiments.summary import summarise, written

__all__ = ["compare", "find", "gc", "list_", "report", "show"]

_SHOWN = 6  # metrics in a table


def list_(save_dir: SaveDirOption = SAVE_DIR, as_json: JsonOption = False) -> None:
    """List the experiments of a folder, the oldest first."""
    store = ExperimentStore(save_dir)
    rows = [_row(store, experiment) for experiment in store.all()]
    columns = ("id", "name", "arms", "complete", "failed", "metric", "best", "value", "created")
    show_rows(rows, as_json=as_json, columns=columns, empty=f"No experiments in {save_dir} yet.")


def show(name: ExperimentArgument, save_dir: SaveDirOption = SAVE_DIR, as_json: JsonOption = False) -> None:
    """Show an experiment's arms, their stages, how long these took, and their notes."""
    store = ExperimentStore(save_dir)
    experiment = find(store, name)
    if as_json:
        emit(_document(store, experiment))
        return
    note(f"[bold]{escape(experiment.name)}[/] {experiment.id}, {escape(experiment.source)}")
    rows = [_stage_row(store, arm, stage) for arm in experiment.arms for stage in arm.stages]
    console().print(table(("arm", "stage", "status", "seconds", "key", "notes"), rows))
    _print_arms(store, experiment)


def compare(
    names: Annotated[
        list[str], typer.Argument(metavar="EXPERIMENT...", help="Ids, their beginnings, or names.")
    ],
    metric: MetricOption = None,
    save_dir: SaveDirOption = SAVE_DIR,
    as_json: JsonOption = False,
) -> None:
    """Compare the arms of experiments by a metric, the best first, and write each one's report."""
    store = ExperimentStore(save_dir)
    experiments = [find(store, name) for name in names]
    chosen = metric or experiments[0].metric
    ranked = []
    for experiment in experiments:
        page = write_report(store, experiment)
        note(f"report {page}")
        for arm in experiment.arms:
            values = metrics_of(store, arm)
            if chosen in values:
                ranked.append((values[chosen], experiment, arm))
    if not ranked:
        raise Failure(f"no arm has the metric {chosen!r}", remedy="tunestream experiment show names them")
    smaller = experiments[0].minimises if metric in {None, experiments[0].metric} else "loss" in chosen
    ranked.sort(key=lambda one: one[0], reverse=not smaller)
    rows = [
        {"experiment": each.name, "arm": arm.name, chosen: value, "settings": _settings(arm)}
        for value, each, arm in ranked
    ]
    show_rows(rows, as_json=as_json, columns=("experiment", "arm", chosen, "settings"))


def gc(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[EXPERIMENT]...", help="Experiments to delete first.")
    ] = None,
    save_dir: SaveDirOption = SAVE_DIR,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete stages that no experiment uses, and the trainer's copies of what stages hold."""
    store = ExperimentStore(save_dir)
    doomed = [store.experiment_dir(find(store, name).id) for name in names or ()]
    doomed += store.unused(but=[path.name for path in doomed])
    if not dry_run:
        for path in doomed:
            store.delete(path)
    if as_json:
        emit({"deleted": [str(path) for path in doomed], "dry_run": dry_run})
    else:
        note(f"{'would delete' if dry_run else 'deleted'} {len(doomed)} folders")
        for path in doomed:
            note(f"  {escape(str(path))}")


def find(store: ExperimentStore, name: str) -> ExperimentManifest:
    """Return an experiment by what a user calls it.

    Raises:
        Failure: when there is none.
    """
    try:
        return store.find(name)
    except NoSuchExperiment as error:
        raise Failure(
            str(error), remedy="--save-dir names the folder that a file's save_dir names"
        ) from error


def report(store: ExperimentStore, experiment: ExperimentManifest, *, as_json: bool) -> None:
    """Print what became of an experiment, or with a dry run what would."""
    if as_json:
        emit(_document(store, experiment))
    else:
        _print_arms(store, experiment)


def _print_arms(store: ExperimentStore, experiment: ExperimentManifest) -> None:
    summary, metric = summarise(store, experiment), experiment.metric
    names = summary.metrics[:_SHOWN]
    rows = []
    for arm in summary.arms:
        untuned = written(arm.qa.baseline.get(metric)) if arm.qa else ""
        values = [written(arm.value(name)) for name in names]
        rows.append([arm.name, _settings(arm.arm), _status(arm.arm), untuned, *values])
    columns = ("arm", "settings", "stages", f"untuned {metric}", *names)
    console().print(table(columns, rows, title=experiment.name))
    best = _best(store, experiment)
    if best is not None and len(experiment.arms) > 1:
        note(f"best by {best.metric}: [bold]{best.arm.name}[/], {best.value:.4g}")


def _row(store: ExperimentStore, experiment: ExperimentManifest) -> dict[str, Any]:
    best = _best(store, experiment)
    states = [[state.status for state in arm.stages.values()] for arm in experiment.arms]
    return {
        "id": experiment.id,
        "name": experiment.name,
        "arms": len(experiment.arms),
        "complete": sum(all(status == "complete" for status in each) for each in states),
        "failed": sum("failed" in each for each in states),
        "metric": experiment.metric,
        "best": best.arm.name if best else None,
        "value": round(best.value, 4) if best else None,
        "created": experiment.created,
    }


def _stage_row(store: ExperimentStore, arm: ArmManifest, stage: Stage) -> list[object]:
    state = arm.stages[stage]
    if state.status != "complete" or state.key is None:
        return [arm.name, stage, state.status, None, (state.key or "")[:12], state.error]
    made = store.stage(stage, state.key)
    return [arm.name, stage, state.status, f"{made.seconds:.1f}", made.key[:12], "; ".join(made.notes)]


def _document(store: ExperimentStore, experiment: ExperimentManifest) -> dict[str, Any]:
    best = _best(store, experiment)
    arms = [arm.model_dump(mode="json") | {"metrics": metrics_of(store, arm)} for arm in experiment.arms]
    return experiment.model_dump(mode="json", exclude={"arms"}) | {
        "arms": arms,
        "best": best.arm.name if best else None,
    }


def _best(store: ExperimentStore, experiment: ExperimentManifest) -> Best | None:
    try:
        return best_arm(store, experiment)
    except NoBest:
        return None


def _settings(arm: ArmManifest) -> str:
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in arm.settings.items())


def _status(arm: ArmManifest) -> str:
    """Return the status of an arm in a word, or one word a stage where they differ."""
    states = {each.status for each in arm.stages.values()}
    if len(states) == 1:
        return states.pop()
    return " ".join(f"{stage}:{state.status}" for stage, state in arm.stages.items())
