"""``tunestream jobs``: training jobs, from their submission to their end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tunestream.artifacts import ArtifactStore, put_rows
from tunestream.cli.brokers import BrokersOption, broker_settings
from tunestream.cli.control import AnswerOption, command
from tunestream.cli.errors import Failure, TryAgain
from tunestream.cli.jobs.logs import logs
from tunestream.cli.lookup import JobArgument, check_run, read_current_config, read_job, read_jobs
from tunestream.cli.output import DryRunOption, JsonOption, console, emit, note, show, table
from tunestream.config.settings import KafkaSettings, StoreSettings
from tunestream.domain.jobs.lifecycle import TERMINAL
from tunestream.domain.jobs.submission import make_batch, read_submitted, split_submitted
from tunestream.events.dataset import DatasetRow
from tunestream.events.training import JobRecord, TrainingBatch, TrainingJobStatus, TrainingStatusEnum
from tunestream.sdk import StatusSubscriber

__all__ = ["register"]

_EXITS: Final = {
    TrainingStatusEnum.COMPLETED: 0,
    TrainingStatusEnum.FAILED: 1,
    TrainingStatusEnum.CANCELED: 4,
}

RunOption = Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only this run's.")]
StateOption = Annotated[TrainingStatusEnum | None, typer.Option("--state", help="Only jobs in this state.")]

_jobs = typer.Typer()


def register(app: typer.Typer) -> None:
    """Add ``jobs`` to ``app``."""
    app.add_typer(_jobs, name="jobs")


@_jobs.callback(invoke_without_command=True)
def jobs(
    context: typer.Context,
    run: RunOption = None,
    state: StateOption = None,
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """List, show, submit, cancel and await training jobs.

    Without a subcommand it lists them.
    """
    if context.invoked_subcommand is None:
        list_(run, state, brokers, as_json)
    elif run or state or brokers or as_json:
        raise typer.BadParameter(f"options go behind {context.invoked_subcommand}")


@_jobs.command("list")
def list_(
    run: RunOption = None,
    state: StateOption = None,
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """List training jobs, the oldest first."""
    found = asyncio.run(_read_jobs(broker_settings(brokers), run))
    rows = [job.model_dump(mode="json") for job in found if state in (None, job.status)]
    columns = ("created", "run_id", "job_id", "status", "progress", "attempt", "version", "message")
    show(rows, as_json=as_json, columns=columns, empty="No jobs yet.")


async def _read_jobs(settings: KafkaSettings, run: str | None) -> list[JobRecord]:
    jobs = await read_jobs(settings, run)
    if run is not None and not jobs:
        await check_run(settings, run)
    return jobs


@_jobs.command("show")
def show_(job: JobArgument, brokers: BrokersOption = None, as_json: JsonOption = False) -> None:
    """Show a job and what it trains on."""
    found = asyncio.run(read_job(broker_settings(brokers), job))
    document = found.model_dump(mode="json")
    if as_json:
        emit(document)
        return
    batch = document.pop("batch")
    rows = [*document.items(), *((f"batch {name}", value) for name, value in batch.items())]
    console().print(table(["", ""], [(name, value) for name, value in rows if value is not None]))


_jobs.command("logs")(logs)


@_jobs.command()
def cancel(
    job: JobArgument,
    timeout: AnswerOption = 30.0,
    dry_run: DryRunOption = False,
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a job as CANCELED.

    One that waits ends at once. One that runs is canceled at once as well; its worker stops after its
    optimiser step and its checkpoint, from which `jobs submit --job` goes on.
    """
    settings = broker_settings(brokers)
    found = asyncio.run(read_job(settings, job))
    command(
        settings,
        timeout=timeout,
        dry_run=dry_run,
        as_json=as_json,
        run_id=found.run_id,
        action="cancel",
        job_id=found.job_id,
    )


@_jobs.command()
def submit(
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="Run that learns; with --dataset or --batch.")
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option("--dataset", metavar="FILE", exists=True, dir_okay=False, help="Rows as JSON lines."),
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(
            "--validation",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Rows to measure on; by default those whose prompts the run holds out.",
        ),
    ] = None,
    batch: Annotated[
        str | None, typer.Option("--batch", metavar="BATCH", help="A batch that was trained on.")
    ] = None,
    job: Annotated[
        str | None, typer.Option("--job", metavar="JOB", help="A finished job, to run its batch again.")
    ] = None,
    *,
    timeout: AnswerOption = 30.0,
    dry_run: DryRunOption = False,
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train on a file without the stream, or on a batch again.

    Each submission makes a job of its own. That of a canceled job continues from its checkpoint, unless the
    run's current version changed since.
    """
    if sum(chosen is not None for chosen in (dataset, batch, job)) != 1:
        raise typer.BadParameter("give one of --dataset, --batch and --job")
    if job is None and run is None:
        raise typer.BadParameter("name the run", param_hint="--run")
    if validation is not None and dataset is None:
        raise typer.BadParameter("it goes with --dataset", param_hint="--validation")
    settings = broker_settings(brokers)
    if run is not None:
        asyncio.run(check_run(settings, run))
    if dataset is not None:
        fields: dict[str, Any] = {"batch": _store(settings, str(run), dataset, validation, dry_run=dry_run)}
    elif job is not None:
        found = asyncio.run(read_job(settings, job))
        run, fields = found.run_id, {"job_id": found.job_id}
    else:
        fields = {"batch_id": batch}
    options: dict[str, Any] = {"timeout": timeout, "dry_run": dry_run, "as_json": as_json}
    command(settings, run_id=run, action="submit", **options, **fields)


def _store(
    settings: KafkaSettings, run: str, dataset: Path, validation: Path | None, *, dry_run: bool
) -> TrainingBatch:
    config = asyncio.run(read_current_config(settings, run))
    rows = _read(dataset)
    if validation is None:
        train, held_out = split_submitted(rows, run, config.batching.validation_fraction)
    else:
        train, held_out = rows, _read(validation)
    if not train:
        raise Failure(
            f"{dataset} has no rows to train on", remedy="Rows with held-out prompts are not trained on"
        )
    store = ArtifactStore("memory://dry-run" if dry_run else StoreSettings().artifacts)
    note(f"{len(train)} rows to train on, {len(held_out)} to measure on")
    return make_batch(
        run,
        config_digest=config.digest,
        objective=config.objective,
        train=put_rows(store, train),
        validation=put_rows(store, held_out) if held_out else None,
        rows=train + held_out,
    )


def _read(file: Path) -> list[DatasetRow]:
    try:
        return list(read_submitted(file.read_bytes()))
    except ValueError as error:
        raise Failure(f"{file}: {error}") from error


@_jobs.command()
def wait(
    job: JobArgument,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=0.1, metavar="SECONDS", help="Longest wait; none by default."),
    ] = None,
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Wait for the end of a job; exit with 0 completed, 1 failed, 4 canceled, 3 when time is out."""
    try:
        ended = asyncio.run(_wait(broker_settings(brokers), job, timeout))
    except TimeoutError as error:
        raise TryAgain(f"job {job} has not ended within {timeout:g} s") from error
    if as_json:
        emit(ended.model_dump(mode="json"))
    else:
        note(f"job {ended.job_id} {ended.status}: {ended.message or ''}")
    raise typer.Exit(_EXITS[ended.status])


async def _wait(settings: KafkaSettings, name: str, timeout: float | None) -> JobRecord | TrainingJobStatus:
    job = await read_job(settings, name)
    async with StatusSubscriber(job.run_id, settings=settings) as statuses:
        job = await read_job(settings, job.job_id)  # it may have ended before we listened
        if job.status in TERMINAL:
            return job
        async with asyncio.timeout(timeout):
            async for status in statuses:
                if status.job_id == job.job_id and status.status in TERMINAL:
                    return status
    raise AssertionError("the statuses of a run never end")
