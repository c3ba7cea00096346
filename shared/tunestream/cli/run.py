"""``tunestream run``: the configurations of runs."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import yaml
from pydantic import ValidationError
from rich.markup import escape

from tunestream.cli.backend_health import check_health
from tunestream.cli.brokers import BrokersOption, broker_settings
from tunestream.cli.errors import Failure
from tunestream.cli.logs import show_logs
from tunestream.cli.lookup import no_such_run
from tunestream.cli.output import DryRunOption, JsonOption, console, emit, leaves, note, show, table
from tunestream.config.files.errors import ConfigError, Problem
from tunestream.config.run.loading import LoadedRun, load_run
from tunestream.config.run.run import RunConfig, json_schema
from tunestream.config.settings import KafkaSettings
from tunestream.events.runs import FIRST_FORMAT, RunPointer, RunRecord
from tunestream.streams.reading import latest_bodies
from tunestream.streams.runs import RunDirectory, apply_run

__all__ = ["register"]

_SOURCE: Final = "/tunestream/cli"

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="A run's YAML file.")
]
RunIdOption = Annotated[str | None, typer.Option("--run-id", help="Takes the place of the file's run_id.")]

_runs = typer.Typer(no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add ``run`` to ``app``."""
    app.add_typer(_runs, name="run")


@_runs.callback()
def run() -> None:
    """Apply, list, show and check the configurations of runs."""


@_runs.command()
def apply(
    file: FileArgument,
    run_id: RunIdOption = None,
    health_check: Annotated[
        bool,
        typer.Option(
            "--health-check/--no-health-check",
            help="Check first that the run's backend can train; --no-… where only the trainer reaches it.",
        ),
    ] = True,
    dry_run: DryRunOption = False,
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a file's configuration the one that new turns of its run open with.

    Applying the same again changes nothing. Turns that are open keep the configuration they opened with.
    A run whose backend cannot train is refused.
    """
    config = _load(file, run_id).config
    if health_check:
        check_health(config)
    before = asyncio.run(_apply(broker_settings(brokers), config, dry_run=dry_run))
    change = "unchanged" if before == config.digest else "created" if before is None else "changed"
    if as_json:
        emit({"run_id": config.run_id, "digest": config.digest, "before": before, "change": change})
    else:
        note(
            f"run [bold]{escape(config.run_id)}[/] {'would be ' if dry_run else ''}{change}: {config.digest}"
        )


@_runs.command("list")
def list_(brokers: BrokersOption = None, as_json: JsonOption = False) -> None:
    """List the runs that were applied."""
    records, current = asyncio.run(_read(broker_settings(brokers)))
    rows = [_row(records[run_id, digest]) for run_id, digest in sorted(current.items())]
    columns = ("run_id", "digest", "trajectory_builder", "trainer", "objective")
    show(rows, as_json=as_json, columns=columns, empty="No runs yet: tunestream run apply FILE")


@_runs.command("show")
def show_(
    what: Annotated[str, typer.Argument(metavar="FILE|RUN", help="A run's file, or a run that was applied.")],
    origin: Annotated[
        bool, typer.Option("--origin", help="Show where each value came from; for a file.")
    ] = False,
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a run's configuration with every default filled in."""
    if Path(what).is_file():
        loaded = _load(Path(what))
        document, origins = loaded.config.complete(), loaded.origins
    elif origin:
        raise Failure(
            f"{what}: no such file", remedy="--origin reads a file: a run that was applied has none"
        )
    else:
        document, origins = _complete(asyncio.run(_current(broker_settings(brokers), what))), {}
    if origin:
        rows = [
            {"path": path, "value": value, "origin": origins.get(path, "default")}
            for path, value in leaves(document)
        ]
        show(rows, as_json=as_json, columns=("path", "value", "origin"))
    elif as_json:
        emit(document)
    else:
        typer.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)


@_runs.command()
def validate(
    file: FileArgument,
    run_id: RunIdOption = None,
    check_backend: Annotated[
        bool, typer.Option("--check-backend", help="Ask also whether the run's backend can train.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a run's file and report everything that is wrong with it."""
    try:
        loaded = load_run(file, run_id=run_id)
        if check_backend:
            check_health(loaded.config)
    except (ConfigError, Failure) as error:
        if not as_json:
            raise
        emit({"valid": False, "problems": _problems(file, error)})
        raise typer.Exit(error.exit_code if isinstance(error, Failure) else 1) from error
    if as_json:
        emit(
            {
                "valid": True,
                "run_id": loaded.config.run_id,
                "digest": loaded.config.digest,
                "notes": loaded.notes,
            }
        )
        return
    _show_notes(loaded)
    console().print(table(["run", "digest"], [(loaded.config.run_id, loaded.config.digest)]))


@_runs.command()
def schema() -> None:
    """Print the JSON Schema of a run's file, for editors."""
    emit(json_schema())


def _problems(file: Path, error: ConfigError | Failure) -> list[dict[str, Any]]:
    if isinstance(error, ConfigError):
        return [asdict(problem) for problem in error.problems]
    return [asdict(Problem(str(file), "trainer", f"{error}; {error.remedy}"))]


def _load(file: Path, run_id: str | None = None) -> LoadedRun:
    loaded = load_run(file, run_id=run_id)
    _show_notes(loaded)
    return loaded


def _show_notes(loaded: LoadedRun) -> None:
    for text in loaded.notes:
        note(f"[yellow]note:[/] {escape(text)}")


async def _apply(settings: KafkaSettings, config: RunConfig, *, dry_run: bool) -> str | None:
    """Apply a configuration unless it is current; return the digest that was current before.

    Raises:
        Failure: when it has a setting that the release before, to which services may be rolled back, refuses.
    """
    await _check_readable(settings, config)
    _, current = await _read(settings)
    before = current.get(config.run_id)
    if before != config.digest and not dry_run:
        await apply_run(settings, config, source=_SOURCE)
    return before


async def _check_readable(settings: KafkaSettings, config: RunConfig) -> None:
    needed, names = config.needed_format()
    if needed == FIRST_FORMAT:
        return
    show_logs("warning")
    async with RunDirectory(settings) as runs:
        number = runs.format
    if number < needed:
        raise Failure(
            f"{', '.join(names)}: needs format {needed}, and the services write format {number}: a release "
            "that they could be rolled back to does not read it",
            remedy="tunestream upgrade finish",
        )


async def _read(settings: KafkaSettings) -> tuple[dict[tuple[str, str], RunRecord], dict[str, str]]:
    """Return the configurations by (run, digest), and the current digest of each run."""
    records: dict[tuple[str, str], RunRecord] = {}
    current: dict[str, str] = {}
    for body in await latest_bodies(settings, "runs"):
        if isinstance(body, RunRecord):
            records[body.run_id, body.digest] = body
        elif isinstance(body, RunPointer):
            current[body.run_id] = body.digest
    return records, current


async def _current(settings: KafkaSettings, run_id: str) -> RunRecord:
    records, current = await _read(settings)
    if run_id not in current:
        raise no_such_run(run_id, current)
    return records[run_id, current[run_id]]


def _complete(record: RunRecord) -> dict[str, Any]:
    """Return a recorded configuration with its defaults; one that this release cannot read, as it is."""
    try:
        return RunConfig.from_record(record).complete()
    except ValidationError:
        return record.config


def _row(record: RunRecord) -> dict[str, Any]:
    config = record.config
    return {
        "run_id": record.run_id,
        "digest": record.digest,
        "trajectory_builder": config.get("trajectory_builder", {}).get("_type"),
        "trainer": config.get("trainer", {}).get("_type"),
        "objective": config.get("trainer", {}).get("objective"),
    }
