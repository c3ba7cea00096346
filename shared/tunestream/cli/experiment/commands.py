"""The commands of ``tunestream experiment``, and those that make and run an experiment."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape

from tunestream.cli.brokers import BrokersOption, broker_settings
from tunestream.cli.errors import Failure
from tunestream.cli.experiment.export import export
from tunestream.cli.experiment.progress import watching
from tunestream.cli.experiment.results import compare, gc, list_, report, show
from tunestream.cli.logs import show_logs
from tunestream.cli.output import DryRunOption, JsonOption, emit, note
from tunestream.cli.stopping import until_stopped
from tunestream.config.experiment.loading import LoadedExperiment, load_experiment
from tunestream.config.settings import StoreSettings
from tunestream.experiments.engine import Engine
from tunestream.experiments.recognising import recognised
from tunestream.experiments.report import write_report
from tunestream.experiments.samples import SAMPLES, write_sample
from tunestream.experiments.stages import Choice, Stage, StageFailed
from tunestream.experiments.store import ExperimentStore
from tunestream.experiments.trainer_service import TrainerService

__all__ = ["experiments"]

_FILE: Final = "experiment.yaml"

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="An experiment's YAML file.")
]
FolderArgument = Annotated[
    Path, typer.Argument(metavar="DIR", file_okay=False, help="Where the files are written.")
]
ExampleOption = Annotated[
    str, typer.Option("--example", metavar="NAME", help=f"One of {', '.join(SAMPLES)}.")
]
OnlyOption = Annotated[
    Stage | None, typer.Option("--only", help="Run this stage alone; those before must be complete.")
]
FromOption = Annotated[
    Stage | None, typer.Option("--from", help="Run from this stage on; those before must be complete.")
]
ForceOption = Annotated[
    list[Stage] | None, typer.Option("--force", help="Run this stage although it is complete; repeatable.")
]
ParallelOption = Annotated[int, typer.Option("--max-parallel", min=1, help="Number of arms at a time.")]
SubmitOption = Annotated[
    bool, typer.Option("--submit", help="Have the trainer service train, through the broker.")
]

experiments = typer.Typer(no_args_is_help=True)


@experiments.callback()
def experiment() -> None:
    """Fine-tune and judge models from a file of examples, one or a grid of them."""


@experiments.command()
def init(
    folder: FolderArgument = Path(),
    example: ExampleOption = "blank",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of generated data and models.")] = 0,
) -> None:
    """Write an experiment's file to begin with; of an example also its data and its model."""
    if example not in SAMPLES:
        raise Failure(f"there is no example {example!r}", remedy=f"Choose one of {', '.join(SAMPLES)}")
    target = folder / _FILE
    if target.exists():
        raise Failure(f"{target} exists already", remedy="Remove it, or name another folder")
    written = write_sample(example, folder, seed=seed)
    note(f"wrote {', '.join(str(path) for path in written)}\nrun it: tunestream experiment run {target}")


@experiments.command()
def validate(file: FileArgument, as_json: JsonOption = False) -> None:
    """Check a file and show what it describes; exit with 1 when something is wrong."""
    loaded = _load(file)
    if as_json:
        arms = [{"settings": arm.settings, "config": arm.config.document()} for arm in loaded.arms]
        emit({"id": loaded.id, "name": loaded.name, "notes": loaded.notes, "arms": arms})
        return
    config, count = loaded.arms[0].config, len(loaded.arms)
    note(
        f"[green]{escape(str(file))} is right:[/] {escape(loaded.name)}, "
        f"{count} arm{'s' if count > 1 else ''}, objective {config.learns}, "
        f"model {escape(config.model.hf_model_ckpt)}"
    )


@experiments.command()
def run(
    file: FileArgument,
    *,
    only: OnlyOption = None,
    start: FromOption = None,
    force: ForceOption = None,
    max_parallel: ParallelOption = 1,
    submit: SubmitOption = False,
    dry_run: DryRunOption = False,
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run an experiment: what is complete is used again, what was interrupted continues.

    Exit code 1 when an arm failed; the others are run all the same.
    """
    if only is not None and start is not None:
        raise typer.BadParameter("--only and --from exclude each other")
    show_logs("warning")
    loaded = _load(file)
    store = ExperimentStore(loaded.save_dir)
    choice = Choice(only, start, frozenset(force or ()))
    kafka = broker_settings(brokers)
    if dry_run:
        report(store, asyncio.run(Engine(store, choice=choice, kafka=kafka).preview(loaded)), as_json=as_json)
        return
    service = TrainerService(kafka, StoreSettings().artifacts) if submit else None
    with watching(store.experiment_dir(loaded.id) / "run.log") as on_update:
        engine = Engine(
            store, choice=choice, max_parallel=max_parallel, on_update=on_update, kafka=kafka, service=service
        )
        ended = asyncio.run(until_stopped(engine.run(loaded)))
    if ended is None:
        raise Failure("stopped", remedy="The same command continues from here")
    page = write_report(store, ended)
    report(store, ended, as_json=as_json)
    note(f"report {page}")
    if any(state.status == "failed" for arm in ended.arms for state in arm.stages.values()):
        raise typer.Exit(1)


def _load(file: Path) -> LoadedExperiment:
    loaded = load_experiment(file)
    try:
        loaded = recognised(loaded)
    except StageFailed as failure:
        if failure.code == "unknown_format":  # data that is not there is the stage's failure, which names it
            raise Failure(failure.message) from failure
    for text in loaded.notes:
        note(f"[dim]note:[/] {escape(text)}")
    return loaded


experiments.command("list")(list_)
experiments.command("show")(show)
experiments.command("compare")(compare)
experiments.command("export")(export)
experiments.command("gc")(gc)
