"""``tunestream status``: the statuses of training jobs."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.markup import escape

from tunestream.cli.brokers import BrokersOption, broker_settings
from tunestream.cli.lookup import applied_runs, check_run, no_such_run
from tunestream.cli.output import JsonOption, console, emit_line, note, show, warn
from tunestream.config.settings import KafkaSettings
from tunestream.events.training import TrainingJobStatus
from tunestream.sdk import StatusSubscriber

__all__ = ["register"]

RunOption = Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only this run's.")]
FollowOption = Annotated[
    bool, typer.Option("--follow", "-f", help="Go on with what comes from now on, until Ctrl-C.")
]


def register(app: typer.Typer) -> None:
    """Add ``status`` to ``app``."""
    app.command("status")(status)


def status(
    run: RunOption = None,
    follow: FollowOption = False,
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the statuses of training jobs.

    Those that are kept, oldest first; with --follow those that come from now on, one JSON object a line
    with --json.
    """
    settings = broker_settings(brokers)
    if follow:
        asyncio.run(_follow(settings, run, as_json=as_json))
        return
    events = sorted(asyncio.run(_statuses(settings, run)), key=lambda event: (event.time, event.sequence))
    rows = [event.model_dump(mode="json") for event in events]
    columns = ("time", "run_id", "job_id", "status", "progress", "message")
    show(rows, as_json=as_json, columns=columns, empty="No statuses yet.")


async def _statuses(settings: KafkaSettings, run: str | None) -> list[TrainingJobStatus]:
    async with StatusSubscriber(run, from_beginning=True, settings=settings) as statuses:
        found = [event async for event in statuses.so_far()]
    if run is not None and not found:
        await check_run(settings, run)
    return found


async def _follow(settings: KafkaSettings, run: str | None, *, as_json: bool) -> None:
    if run is not None and run not in (known := await applied_runs(settings)):
        warn(f"{no_such_run(run, known)} so far")
    async with StatusSubscriber(run, settings=settings) as statuses:
        note("following; Ctrl-C ends it")
        async for event in statuses:
            if as_json:
                emit_line(event)
            else:
                console().print(_line(event), soft_wrap=True, highlight=False)


def _line(event: TrainingJobStatus) -> str:
    progress = "" if event.progress is None else f"{event.progress:5.1f} %"
    message = escape(event.message or "")
    named = f"{escape(event.run_id)} {event.job_id[:8]}"
    return (
        f"[dim]{event.time:%H:%M:%S}[/] {named} [bold]{event.status:<9}[/] {progress:>7} {message}".rstrip()
    )
