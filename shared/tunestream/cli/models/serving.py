"""``tunestream models serving``: what each server should answer with, and what it reports."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from tunestream.cli.brokers import BrokersOption, broker_settings
from tunestream.cli.errors import Failure
from tunestream.cli.lookup import check_run
from tunestream.cli.output import JsonOption, show
from tunestream.config.settings import KafkaSettings
from tunestream.overview.facts import ServerFacts
from tunestream.overview.read.runs import read_configs, read_ledger
from tunestream.overview.read.serving import read_servers

__all__ = ["serving"]

RunArgument = Annotated[str | None, typer.Argument(metavar="[RUN]", help="Only this run's servers.")]


def serving(run: RunArgument = None, brokers: BrokersOption = None, as_json: JsonOption = False) -> None:
    """Ask the servers which versions they answer with, and compare with what is promoted.

    Exit code 1 when a server does not answer with the promoted version. Keys are taken from this command's
    environment.
    """
    settings = broker_settings(brokers)
    rows = [asdict(facts) for facts in asyncio.run(_survey(settings, run))]
    if run is not None and not rows:
        asyncio.run(check_run(settings, run))
        raise Failure(f"run {run!r} has no servers", remedy="list them in the run's `serving` section")
    columns = ("run_id", "server", "kind", "number", "desired", "listed", "in_sync", "problem")
    shown = rows if as_json else [row | {"listed": ", ".join(row["listed"])} for row in rows]
    show(shown, as_json=as_json, columns=columns, empty="No run has servers.")
    if any(row["in_sync"] is False for row in rows):
        raise typer.Exit(1)


async def _survey(settings: KafkaSettings, run: str | None) -> list[ServerFacts]:
    return await read_servers(await read_configs(settings, run), await read_ledger(settings, run))
