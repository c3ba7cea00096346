"""``tunestream experiment export``: an arm's weights, and its settings as a run."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from tunestream.cli.errors import Failure
from tunestream.cli.experiment.options import SAVE_DIR, ExperimentArgument, MetricOption, SaveDirOption
from tunestream.cli.experiment.results import find
from tunestream.cli.models.files import merge
from tunestream.cli.output import JsonOption, emit, note
from tunestream.config.experiment.experiment import Config
from tunestream.config.run.run import RunConfig
from tunestream.experiments.choosing import NoBest, best_arm
from tunestream.experiments.manifests import ArmManifest, ExperimentManifest, StageManifest
from tunestream.experiments.stages import Stage
from tunestream.experiments.store import ExperimentStore

__all__ = ["export", "standing_alone"]


@dataclass(frozen=True, slots=True)
class _Chosen:
    """An arm whose weights are there."""

    store: ExperimentStore
    arm: ArmManifest
    config: Config
    trained: StageManifest

    @property
    def weights(self) -> Path:
        return self.store.stage_dir(Stage.FINETUNE, self.trained.key) / "weights"


def export(
    name: ExperimentArgument,
    *,
    arm: Annotated[
        str | None, typer.Option("--arm", metavar="ARM", help="By default the best by the metric.")
    ] = None,
    metric: MetricOption = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", metavar="DIR", help="New folder for the weights as trained."),
    ] = None,
    merged: Annotated[
        Path | None, typer.Option("--merged", metavar="DIR", help="New folder for weights without a base.")
    ] = None,
    run_config: Annotated[
        Path | None, typer.Option("--run-config", metavar="FILE", help="A run that trains as the arm did.")
    ] = None,
    run_id: Annotated[
        str | None, typer.Option("--run-id", metavar="RUN", help="run_id in --run-config.")
    ] = None,
    save_dir: SaveDirOption = SAVE_DIR,
    as_json: JsonOption = False,
) -> None:
    """Write what a run needs to begin with an experiment's best arm.

    With --merged the run's base model is those weights.
    """
    if not any((weights, merged, run_config)):
        raise typer.BadParameter("give at least one of --weights, --merged and --run-config")
    chosen = _choose(ExperimentStore(save_dir), name, arm, metric)
    made: dict[str, Any] = {"arm": chosen.arm.name, "settings": chosen.arm.settings}
    if weights is not None:
        _must_be_new(weights)
        shutil.copytree(chosen.weights, weights)
        made["weights"] = str(weights)
    if merged is not None:
        _stand_alone(chosen, merged)
        made["merged"] = str(merged)
    if run_config is not None:
        run = _run(chosen, run_id or find(chosen.store, name).name, merged)
        _write_run(run_config, run)
        made |= {"run_config": str(run_config), "run_id": run.run_id, "digest": run.digest}
    if as_json:
        emit(made)
    else:
        note("\n".join(f"{key}: {value}" for key, value in made.items()))


def standing_alone(name: str, save_dir: Path, folder: Path) -> Path:
    """Write the best arm's weights, merged with their base, to a new folder unless it is there.

    Raises:
        Failure: when there is no such experiment, or none of its arms is trained.
    """
    chosen = _choose(ExperimentStore(save_dir), name, None, None)
    target = folder / f"experiment-{chosen.trained.key[:16]}"
    if not target.exists():
        _stand_alone(chosen, target)
    return target


def _choose(store: ExperimentStore, name: str, arm: str | None, metric: str | None) -> _Chosen:
    experiment = find(store, name)
    try:
        found = best_arm(store, experiment, metric=metric).arm if arm is None else _named(experiment, arm)
    except NoBest as error:
        raise Failure(str(error), remedy="Name the arm with --arm, or a metric with --metric") from error
    made = {stage: state for stage, state in found.stages.items() if state.status == "complete"}
    if Stage.FINETUNE not in made:
        raise Failure(f"{found.name} of {experiment.name} is not trained", remedy="Run the experiment")
    trained = store.stage(Stage.FINETUNE, str(made[Stage.FINETUNE].key))
    return _Chosen(store, found, Config.model_validate(found.config), trained)


def _named(experiment: ExperimentManifest, name: str) -> ArmManifest:
    for arm in experiment.arms:
        if arm.name == name:
            return arm
    raise Failure(f"{experiment.name} has no arm {name!r}", remedy="tunestream experiment show lists them")


def _stand_alone(chosen: _Chosen, target: Path) -> None:
    _must_be_new(target)
    if chosen.trained.details["kind"] == "full":
        shutil.copytree(chosen.weights, target)
        return
    target.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.absolute().parent) as scratch:
        merge(chosen.config.model.hf_model_ckpt, chosen.weights, Path(scratch) / "merged").rename(target)


def _must_be_new(folder: Path) -> None:
    if folder.exists():
        raise Failure(f"{folder} exists already", remedy="Remove it, or name another one")


def _run(chosen: _Chosen, run_id: str, merged: Path | None) -> RunConfig:
    config = chosen.config
    if merged is not None:
        model = config.model.model_copy(update={"hf_model_ckpt": str(merged.absolute())})
        config = config.model_copy(update={"model": model})
    return RunConfig(run_id=run_id, trainer=config.trainer)


def _write_run(file: Path, run: RunConfig) -> None:
    document = run.model_dump(mode="json", exclude_unset=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
