"""``tunestream up``: the broker, the topics and the services, kept running."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape

from tunestream.cli.embedding import BrokerOption, embedded_kafka
from tunestream.cli.errors import Failure
from tunestream.cli.logs import show_logs
from tunestream.cli.output import JsonOption, console, emit_line, note, table, warn
from tunestream.cli.service_processes import (
    RunningService,
    check_installed,
    service_of,
    service_processes,
)
from tunestream.cli.stopping import until_stopped
from tunestream.cli.supervisor import Supervisor
from tunestream.cli.up_record import UpRecord, check_alone
from tunestream.config.settings import KafkaSettings
from tunestream.overview.deployment import UP_FILE
from tunestream.streams.admin import apply_topics
from tunestream.topics import SERVICES

__all__ = ["register"]

_READY_SECONDS: Final = 90.0
# Of the broker in a new folder: where clients look when nobody has named one.
_FIRST_PORT: Final = 9092

OnlyOption = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="NAME", help=f"Run only these of {', '.join(SERVICES)}; may repeat."),
]
DataOption = Annotated[
    Path, typer.Option("--data", file_okay=False, help="Folder of the embedded broker, artifacts and logs.")
]


def register(app: typer.Typer) -> None:
    """Add ``up`` to ``app``."""
    app.command("up")(up)


def up(
    only: OnlyOption = None,
    broker: BrokerOption = None,
    data: DataOption = Path(".tunestream"),
    as_json: JsonOption = False,
) -> None:
    """Run the services, with the embedded broker or with KAFKA_BOOTSTRAP_SERVERS.

    A service that dies is started again at once and its reason is shown; one that keeps dying ends the
    command with exit code 1. Ctrl-C or SIGTERM ends everything in order. Other commands in the same folder
    find the broker by the file up.json in .tunestream, which is there while this command runs.
    """
    try:
        services = list(dict.fromkeys(service_of(name) for name in only or SERVICES))
    except LookupError as error:
        raise typer.BadParameter(str(error), param_hint="--only") from error
    check_installed()
    check_alone(data)
    show_logs("error")
    asyncio.run(until_stopped(_serve(services, broker, data.absolute(), as_json=as_json)))


async def _serve(services: Sequence[str], broker: str | None, data: Path, *, as_json: bool) -> None:
    async with AsyncExitStack() as stack:
        ended = None
        if broker is None:
            kafka = await stack.enter_async_context(embedded_kafka(data / "kafka", first_port=_FIRST_PORT))
            broker = kafka.bootstrap_servers
            if kafka.missed_port is not None:
                warn(f"port {kafka.missed_port} is taken by another process: the broker is at {broker}")
            ended = asyncio.create_task(asyncio.to_thread(kafka.wait))
            stack.callback(ended.cancel)
        settings = KafkaSettings(bootstrap_servers=broker)
        artifacts = os.environ.get("TUNESTREAM_ARTIFACTS", str(data / "artifacts"))
        record = stack.enter_context(UpRecord(data, settings, artifacts))
        await apply_topics(settings)
        running = service_processes(services, settings, artifacts=artifacts, logs=data / "logs")
        supervisor = Supervisor(
            [service.process for service in running],
            report=warn,
            started=lambda: record.update(running, supervisor),
        )
        await stack.enter_async_context(supervisor)
        record.update(running, supervisor)
        note(f"starting {', '.join(services)} on {escape(broker)}")
        await supervisor.wait_ready(_READY_SECONDS)
        _report(broker, running, supervisor, is_found=data == UP_FILE.parent.absolute(), as_json=as_json)
        await _first(asyncio.create_task(supervisor.wait()), ended)
        raise Failure("the embedded broker has ended", remedy=f"Read its log in {data / 'kafka'}")


async def _first(*tasks: asyncio.Task[None] | None) -> None:
    waiting = {task for task in tasks if task is not None}
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


def _report(
    broker: str,
    services: Sequence[RunningService],
    supervisor: Supervisor,
    *,
    is_found: bool,
    as_json: bool,
) -> None:
    """Show what runs; ``is_found`` is whether commands in the current folder find it by themselves."""
    rows = [
        {
            "name": service.process.name,
            "url": service.url,
            "pid": supervisor.pid(service.process.name),
            "log": str(service.process.log),
        }
        for service in services
    ]
    if as_json:
        emit_line({"bootstrap_servers": broker, "services": rows})
        return
    console().print(table(["service", "url", "pid", "log"], [list(row.values()) for row in rows]))
    note(f"broker  [bold]{escape(broker)}[/]\nclients export KAFKA_BOOTSTRAP_SERVERS={escape(broker)}")
    if is_found:
        note("commands in this folder find it by themselves; how it is: tunestream doctor")
    else:
        note(f"how it is: tunestream doctor --brokers {escape(broker)}")
    note("Ctrl-C stops everything")
