"""``tunestream models``: what training made, where it came from, and which of it is current."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from tunestream.artifacts import ArtifactStore
from tunestream.cli.brokers import BrokersOption, broker_settings
from tunestream.cli.control import AnswerOption, command
from tunestream.cli.errors import Failure
from tunestream.cli.lookup import VersionArgument, find_version, read_run_ledger
from tunestream.cli.models.files import export, gc
from tunestream.cli.models.history import diff, lineage
from tunestream.cli.models.serving import serving
from tunestream.cli.output import DryRunOption, JsonOption, console, emit, leaves, show, table
from tunestream.config.settings import StoreSettings
from tunestream.domain.jobs.ledger import JobLedger
from tunestream.events.models import ModelVersion
from tunestream.overview.read.runs import read_ledger

__all__ = ["register"]

RunOption = Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only this run's.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN")]
GenerationOption = Annotated[
    int | None,
    typer.Option(
        "--expected-generation", min=0, help="Expected generation of the run's pointer; else refused."
    ),
]

_models = typer.Typer()
for _command in (lineage, diff, export, gc, serving):
    _models.command()(_command)


def register(app: typer.Typer) -> None:
    """Add ``models`` to ``app``."""
    app.add_typer(_models, name="models")


@_models.callback(invoke_without_command=True)
def models(
    context: typer.Context, run: RunOption = None, brokers: BrokersOption = None, as_json: JsonOption = False
) -> None:
    """List, trace, compare, export and promote model versions.

    Without a subcommand it lists them.
    """
    if context.invoked_subcommand is None:
        list_(run, brokers, as_json)
    elif run or brokers or as_json:
        raise typer.BadParameter(f"options go behind {context.invoked_subcommand}")


@_models.command("list")
def list_(run: RunOption = None, brokers: BrokersOption = None, as_json: JsonOption = False) -> None:
    """List model versions and what is current."""
    ledger = asyncio.run(read_run_ledger(broker_settings(brokers), run))
    rows = [_row(version, ledger, as_json=as_json) for version in ledger.all_versions()]
    columns = ("run_id", "number", "version", "current", "status", "verdict", "parent", "created")
    show(rows, as_json=as_json, columns=columns, empty="No versions yet.")


@_models.command("show")
def show_(version: VersionArgument, brokers: BrokersOption = None, as_json: JsonOption = False) -> None:
    """Show a version: base, parent, weights, metrics, evaluation."""
    ledger = asyncio.run(read_ledger(broker_settings(brokers)))
    row = _row(find_version(ledger, version), ledger, as_json=True)
    if as_json:
        emit(row)
        return
    rows = [(name, value) for name, value in leaves(row) if value is not None]
    console().print(table(["", ""], rows))


@_models.command()
def promote(
    run: RunArgument,
    version: VersionArgument,
    expected_generation: GenerationOption = None,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Take a version that its evaluation rejected.")
    ] = False,
    timeout: AnswerOption = 30.0,
    dry_run: DryRunOption = False,
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a version the run's current one."""
    settings = broker_settings(brokers)
    found = find_version(asyncio.run(read_run_ledger(settings, run)), version)
    _check_stored(found)
    command(
        settings,
        timeout=timeout,
        dry_run=dry_run,
        as_json=as_json,
        run_id=run,
        action="promote",
        version=found.version,
        expected_generation=expected_generation,
        force=force,
    )


@_models.command()
def rollback(
    run: RunArgument,
    version: Annotated[
        str | None, typer.Argument(metavar="[VERSION]", help="By default the one that was current before.")
    ] = None,
    expected_generation: GenerationOption = None,
    *,
    timeout: AnswerOption = 30.0,
    dry_run: DryRunOption = False,
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an earlier version the run's current one again."""
    settings = broker_settings(brokers)
    ledger = asyncio.run(read_run_ledger(settings, run))
    pointer = ledger.pointer(run)
    name = version or (None if pointer is None else pointer.previous)
    found = None if name is None else find_version(ledger, name)
    if found is not None:
        _check_stored(found)
    command(
        settings,
        timeout=timeout,
        dry_run=dry_run,
        as_json=as_json,
        run_id=run,
        action="rollback",
        version=None if version is None or found is None else found.version,
        expected_generation=expected_generation,
    )


def _check_stored(version: ModelVersion) -> None:
    """Refuse to serve what `models gc` deleted; weights that stay with their backend are its own.

    Raises:
        Failure: when the version's weights should be in the artifact store and are not.
    """
    if version.artifact.is_remote:
        return
    if not ArtifactStore(StoreSettings().artifacts).has(version.artifact.uri):
        raise Failure(f"the weights of version {version.version} are not in the artifact store any more")


def _row(version: ModelVersion, ledger: JobLedger, *, as_json: bool) -> dict[str, Any]:
    pointer = ledger.pointer(version.run_id)
    is_current = pointer is not None and pointer.version == version.version
    verdict = version.evaluation.verdict if version.evaluation else None
    mark: object = is_current if as_json else "●" if is_current else None
    return version.model_dump(mode="json") | {"current": mark, "verdict": verdict}
