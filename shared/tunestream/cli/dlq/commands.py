"""``tunestream dlq``: what the services refused."""

from __future__ import annotations

import typer

from tunestream.cli.brokers import BrokersOption, broker_settings
from tunestream.cli.dlq.listing import list_, summarise
from tunestream.cli.dlq.options import RunOption, SinceOption, TopicOption
from tunestream.cli.dlq.purging import purge
from tunestream.cli.dlq.replaying import replay
from tunestream.cli.dlq.showing import show_
from tunestream.cli.dlq.skipping import skip_
from tunestream.cli.output import JsonOption

__all__ = ["register"]

_dlq = typer.Typer()
_dlq.command("list")(list_)
_dlq.command("show")(show_)
_dlq.command()(replay)
_dlq.command("skip")(skip_)
_dlq.command()(purge)


def register(app: typer.Typer) -> None:
    """Add ``dlq`` to ``app``."""
    app.add_typer(_dlq, name="dlq")


@_dlq.callback(invoke_without_command=True)
def dlq(
    context: typer.Context,
    topic: TopicOption = None,
    run: RunOption = None,
    since: SinceOption = None,
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count, list, show, replay and delete what the services refused; pass what they cannot read.

    Without a subcommand it counts them by topic and reason, the most frequent first.
    """
    if context.invoked_subcommand is None:
        summarise(broker_settings(brokers), topic, run, since, as_json=as_json)
    elif topic or run or since or brokers or as_json:
        raise typer.BadParameter(f"options go behind {context.invoked_subcommand}")
