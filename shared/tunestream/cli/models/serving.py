"""``tunestream models serving``: what each server should answer with, and what it reports."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from tunestream.cli.errors import Failure
from tunestream.cli.lookup import read_ledger
from tunestream.cli.output import JsonOption, show
from tunestream.config.run.run import RunConfig
from tunestream.config.run.serving import ServingConfig
from tunestream.config.settings import KafkaSettings
from tunestream.domain.jobs.ledger import JobLedger
from tunestream.events.runs import RunPointer, RunRecord
from tunestream.serving import Loaded, ModelServer, ServerFault, Target, targets
from tunestream.streams.reading import latest_bodies

__all__ = ["serving"]

_ANSWER_SECONDS: Final = 10.0

RunArgument = Annotated[str | None, typer.Argument(metavar="[RUN]", help="Only this run's servers.")]


def serving(run: RunArgument = None, as_json: JsonOption = False) -> None:
    """Ask the servers which versions they answer with, and compare with what is promoted.

    Exit code 1 when a server does not answer with the promoted version. Keys are taken from this command's
    environment.
    """
    rows = asyncio.run(_survey(KafkaSettings(), run))
    if run is not None and not rows:
        raise Failure(f"run {run!r} has no servers", remedy="list them in the run's `serving` section")
    columns = ("run_id", "server", "kind", "number", "desired", "listed", "in_sync", "problem")
    shown = rows if as_json else [row | {"listed": ", ".join(row["listed"])} for row in rows]
    show(shown, as_json=as_json, columns=columns, empty="No run has servers.")
    if any(row["in_sync"] is False for row in rows):
        raise typer.Exit(1)


async def _survey(settings: KafkaSettings, run: str | None) -> list[dict[str, Any]]:
    ledger = await read_ledger(settings, run)
    configs = await _configs(settings, run)
    asked = [_ask(config, server, ledger) for config in configs for server in config.serving]
    return await asyncio.gather(*asked)


async def _configs(settings: KafkaSettings, run: str | None) -> list[RunConfig]:
    """Return the current configuration of each run."""
    bodies = await latest_bodies(settings, "runs", run)
    known = {(body.run_id, body.digest): body for body in bodies if isinstance(body, RunRecord)}
    pointers = [(body.run_id, body.digest) for body in bodies if isinstance(body, RunPointer)]
    return [RunConfig.from_record(known[pointer]) for pointer in sorted(pointers)]


async def _ask(config: RunConfig, server: ServingConfig, ledger: JobLedger) -> dict[str, Any]:
    target = next(_targets(config, server, ledger), None)
    row: dict[str, Any] = {
        "run_id": config.run_id,
        "server": server.url,
        "kind": server.kind,
        "number": None if target is None else target.current.number,
        "desired": None if target is None else target.name,
        "listed": [],
        "in_sync": None,
        "problem": "no version is promoted yet" if target is None else None,
    }
    try:
        async with ModelServer(server, timeout=_ANSWER_SECONDS) as asked:
            loaded = await asked.loaded()
    except ServerFault as fault:
        return row | {"in_sync": None if target is None else False, "problem": str(fault)}
    if target is None:
        return row
    row["listed"] = sorted(name for name in loaded if name in {*target.owned, target.model})
    problem = _problem(target, loaded)
    return row | {"in_sync": problem is None, "problem": problem}


def _targets(config: RunConfig, server: ServingConfig, ledger: JobLedger) -> Iterator[Target]:
    pointer = ledger.pointer(config.run_id)
    if pointer is not None:
        only = config.model_copy(update={"serving": [server]})
        yield from targets(only, pointer, ledger.versions(config.run_id))


def _problem(target: Target, loaded: Loaded) -> str | None:
    if target.name not in loaded:
        return f"does not list {target.name}"
    if target.server.stable_name and loaded.get(target.model, "") != loaded[target.name]:
        return f"{target.model} is not {target.name}"
    return None
