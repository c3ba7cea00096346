"""``tunestream dlq skip``: passing what cannot be read."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from tunestream.cli.brokers import BrokersOption, broker_settings
from tunestream.cli.errors import Failure
from tunestream.cli.output import DryRunOption, JsonOption, emit, note
from tunestream.streams.letters.skipping import Skipped, skip
from tunestream.streams.offsets.seeking import SeekRefused

__all__ = ["skip_"]


def skip_(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="An input, without the prefix.")],
    partition: Annotated[int, typer.Argument(metavar="PARTITION", help="The partition's number.", min=0)],
    offset: Annotated[
        int, typer.Argument(metavar="OFFSET", help="Where the service stands, by /health/ready.", min=0)
    ],
    *,
    dry_run: DryRunOption = False,
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have a stopped service go on behind what it cannot read at OFFSET.

    A record or batch that cannot be decoded becomes a dead letter by itself; this is for what cannot even be
    fetched. What can be read in front of it is not passed. A dead letter keeps the place.
    """
    try:
        found = asyncio.run(skip(broker_settings(brokers), topic, partition, offset, dry_run=dry_run))
    except SeekRefused as error:
        raise Failure(str(error), remedy=error.remedy) from error
    if as_json:
        emit(asdict(found) | {"dry_run": dry_run})
        return
    note(_line(found, dry_run=dry_run))


def _line(found: Skipped, *, dry_run: bool) -> str:
    count = f"{found.offsets} offset{'s' if found.offsets != 1 else ''}"
    return (
        f"{count} of {found.topic} partition {found.partition} {'would be' if dry_run else 'were'} passed "
        f"({found.first} to {found.next - 1}): {found.reason or 'what lies there can be read'}; "
        f"{found.service} goes on at {found.next}"
    )
