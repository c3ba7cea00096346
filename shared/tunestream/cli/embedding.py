"""The embedded broker for commands: what goes wrong becomes a failure with its remedy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunestream.cli.errors import Failure

if TYPE_CHECKING:
    from tunestream.streams.embedded import EmbeddedKafka

__all__ = ["BrokerOption", "embedded_kafka"]

BrokerOption = Annotated[
    str | None,
    typer.Option(
        "--broker",
        "--brokers",
        envvar="KAFKA_BOOTSTRAP_SERVERS",
        metavar="HOST:PORT",
        help="Use this broker; without it the embedded one is started.",
    ),
]


@asynccontextmanager
async def embedded_kafka(data: Path, *, first_port: int | None = None) -> AsyncIterator[EmbeddedKafka]:
    """Run a broker on the folder ``data`` while the block is open.

    Args:
        data: its folder.
        first_port: what a new folder takes while it is free.

    Raises:
        Failure: when its packages are missing or it cannot start.
    """
    try:
        from tunestream.streams.embedded import EmbeddedKafka, EmbeddedKafkaError  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise Failure(str(error)) from error
    try:
        async with EmbeddedKafka(data, first_port=first_port) as kafka:
            yield kafka
    except EmbeddedKafkaError as error:
        raise Failure(error.problem, remedy=error.remedy) from error
