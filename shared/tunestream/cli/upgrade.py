"""``tunestream upgrade``: from when on the services write what only this release reads."""

from __future__ import annotations

import asyncio
from typing import Any

import typer

from tunestream.cli.brokers import BrokersOption, broker_settings
from tunestream.cli.logs import show_logs
from tunestream.cli.output import JsonOption, note, show
from tunestream.config.settings import KafkaSettings
from tunestream.events.runs import FORMAT
from tunestream.streams.runs import RunDirectory, write_format

__all__ = ["register"]

_upgrade = typer.Typer(no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add ``upgrade`` to ``app``."""
    app.add_typer(_upgrade, name="upgrade")


@_upgrade.callback()
def upgrade() -> None:
    """Show and finish the upgrade of a deployment.

    A new release first writes what the one before it reads, so that it can be rolled back.
    """


@_upgrade.command("show")
def show_(brokers: BrokersOption = None, as_json: JsonOption = False) -> None:
    """Show which format the services write, and which this release would write."""
    row = asyncio.run(_standing(broker_settings(brokers)))
    show([row], as_json=as_json, columns=("writes", "release", "finished", "reward_service"), empty="")


@_upgrade.command()
def finish(brokers: BrokersOption = None, as_json: JsonOption = False) -> None:
    """Have the services write this release's format. A rollback is refused afterwards.

    Do it when every service runs this release: an earlier one cannot read what is written from then on, and
    its partitions do not open.
    """
    settings = broker_settings(brokers)
    before = asyncio.run(_standing(settings))
    if not before["finished"]:
        kept = before["reward_service"]
        asyncio.run(write_format(settings, FORMAT, source="/tunestream/cli", reward_service=kept))
    show(
        [before | {"writes": FORMAT, "finished": True}],
        as_json=as_json,
        columns=("writes", "release"),
        empty="",
    )
    if before["finished"]:
        note(f"Nothing to do: the services write format {FORMAT} already.")
    else:
        note(f"The services write format {FORMAT} from now on. They cannot be rolled back any more.")


async def _standing(settings: KafkaSettings) -> dict[str, Any]:
    show_logs("warning")
    async with RunDirectory(settings) as runs:
        number, rewards = runs.format, runs.reward_service
    return {"writes": number, "release": FORMAT, "finished": number == FORMAT, "reward_service": rewards}
