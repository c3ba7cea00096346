"""``tunestream streams``: where services stand in their inputs."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, cast

import typer

from tunestream.cli.brokers import BrokersOption, broker_settings
from tunestream.cli.errors import Failure
from tunestream.cli.logs import show_logs
from tunestream.cli.output import JsonOption, show
from tunestream.streams.offsets.seeking import SeekRefused, Target, seek
from tunestream.topics import SERVICES

__all__ = ["register"]

ServiceArgument = Annotated[str, typer.Argument(metavar="SERVICE", help=f"One of {', '.join(SERVICES)}.")]
TopicArgument = Annotated[str, typer.Argument(metavar="TOPIC", help="One of its inputs, without the prefix.")]
PartitionArgument = Annotated[int, typer.Argument(metavar="PARTITION", help="The partition's number.")]
OffsetArgument = Annotated[
    str, typer.Argument(metavar="OFFSET", help="Of the next record, or `earliest`, or `latest`.")
]

_streams = typer.Typer(no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add ``streams`` to ``app``."""
    app.add_typer(_streams, name="streams")


@_streams.callback()
def streams() -> None:
    """Set where services stand in their inputs."""


@_streams.command("seek")
def seek_(
    service: ServiceArgument,
    topic: TopicArgument,
    partition: PartitionArgument,
    offset: OffsetArgument,
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set where a stopped service goes on to read one partition of an input.

    Nothing before OFFSET is read. Going back reads records again: what the state still remembers counts
    once, anything older counts twice.
    """
    show_logs("warning")
    try:
        found = asyncio.run(seek(broker_settings(brokers), service, topic, partition, _target(offset)))
    except SeekRefused as error:
        raise Failure(str(error), remedy=error.remedy) from error
    show(
        [asdict(found)],
        as_json=as_json,
        columns=("service", "topic", "partition", "before", "offset"),
        empty="",
    )


def _target(text: str) -> Target:
    if text in ("earliest", "latest"):
        return cast("Target", text)
    if not text.isascii() or not text.isdigit():
        raise typer.BadParameter("name an offset, `earliest` or `latest`", param_hint="OFFSET")
    return int(text)
