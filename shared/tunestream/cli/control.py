"""Commands to the owner of a run from the command line: sent, or rehearsed with --dry-run."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import uuid4

import typer
from rich.markup import escape

from tunestream.cli.errors import Failure
from tunestream.cli.lookup import read_configs
from tunestream.cli.output import emit, note
from tunestream.config.settings import KafkaSettings
from tunestream.domain.effects import Effects
from tunestream.domain.jobs.commands import obey
from tunestream.events.training import ControlCommand, ControlResult
from tunestream.overview.read.runs import read_ledger
from tunestream.streams.control import send_command

__all__ = ["AnswerOption", "command"]

_SOURCE: Final = "/tunestream/cli"

AnswerOption = Annotated[
    float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="Longest wait for the owner's answer.")
]


def command(
    settings: KafkaSettings, *, timeout: float, dry_run: bool, as_json: bool, **fields: Any
) -> ControlResult:
    """Have the owner of a run carry out a command and print its answer.

    Raises:
        Failure: when it is refused.
    """
    wanted = ControlCommand(command_id=uuid4().hex, **fields)
    if dry_run:
        answer = asyncio.run(_rehearse(settings, wanted))
    else:
        answer = asyncio.run(send_command(settings, wanted, source=_SOURCE, timeout=timeout))
    if as_json:
        emit(answer.model_dump(mode="json") | {"dry_run": dry_run})
        if not answer.accepted:
            raise typer.Exit(1)
    elif not answer.accepted:
        raise Failure(answer.reason)
    else:
        generation = "" if answer.generation is None else f" (generation {answer.generation})"
        note(f"{'would be: ' if dry_run else ''}{escape(answer.reason)}{generation}")
    return answer


async def _rehearse(settings: KafkaSettings, wanted: ControlCommand) -> ControlResult:
    """Return what the owner would answer now."""
    ledger = await read_ledger(settings, wanted.run_id)
    backend = None
    if wanted.batch is not None:
        config = (await read_configs(settings, wanted.run_id)).get(wanted.batch.config_digest)
        backend = None if config is None else config.trainer.type
    return obey(ledger, wanted, now=datetime.now(UTC), effects=Effects(), backend=backend)
