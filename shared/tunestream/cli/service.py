"""``tunestream service``: one service in the foreground, as containers and ``tunestream up`` run it."""

from __future__ import annotations

import asyncio
import os
import signal
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from tunestream.cli.brokers import BrokersOption, broker_settings
from tunestream.cli.service_processes import check_installed, package_of, service_of
from tunestream.config.settings import ServiceSettings
from tunestream.topics import SERVICES

if TYPE_CHECKING:
    from tunestream.streams.runtime.lifecycle import ServiceApp

__all__ = ["register"]

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help=f"One of {', '.join(SERVICES)}.")]
HostOption = Annotated[str, typer.Option(help="Address of the health checks and metrics.")]
PortOption = Annotated[int, typer.Option(min=1, max=65535, help="Port of the health checks and metrics.")]

_service = typer.Typer(no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add ``service`` to ``app``."""
    app.add_typer(_service, name="service")


@_service.callback()
def service() -> None:
    """Run one service in the foreground.

    It is configured by environment variables: KAFKA_BOOTSTRAP_SERVERS, TUNESTREAM_ARTIFACTS,
    TUNESTREAM_REPLICA and the others in docs/reference/settings.
    """


@_service.command("run")
def run(
    name: NameArgument, host: HostOption = "127.0.0.1", port: PortOption = 8000, brokers: BrokersOption = None
) -> None:
    """Run a service until Ctrl-C or SIGTERM.

    Its HTTP side answers /health/live, /health/ready and /metrics. It is one process: start more
    replicas, each with its own TUNESTREAM_REPLICA.
    """
    try:
        package = package_of(service_of(name))
    except LookupError as error:
        raise typer.BadParameter(str(error), param_hint="NAME") from error
    check_installed()
    kafka = broker_settings(brokers)
    # The module of a service reads them while it is imported.
    os.environ |= {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "TUNESTREAM_KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
    }
    signal.signal(signal.SIGTERM, _stop)  # until the service is served, which takes signals itself
    from tunestream.streams.runtime.leftovers import end_leftovers  # noqa: PLC0415 - as below

    asyncio.run(end_leftovers(kafka, service_of(name), ServiceSettings().replica))
    app: ServiceApp = import_module(f"tunestream_services.{package}.app").app
    from tunestream.cli.service_server import serve  # noqa: PLC0415 - help is fast without it

    raise typer.Exit(asyncio.run(serve(app, host, port)))


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
