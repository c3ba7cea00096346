"""``tunestream dlq``: what the services refused."""

from __future__ import annotations

import typer

from tunestream.cli.dlq.listing import list_
from tunestream.cli.dlq.replaying import replay
from tunestream.cli.dlq.showing import show_
from tunestream.cli.dlq.skipping import skip_

__all__ = ["register"]

_dlq = typer.Typer(no_args_is_help=True)
_dlq.command("list")(list_)
_dlq.command("show")(show_)
_dlq.command()(replay)
_dlq.command("skip")(skip_)


def register(app: typer.Typer) -> None:
    """Add ``dlq`` to ``app``."""
    app.add_typer(_dlq, name="dlq")


@_dlq.callback()
def dlq() -> None:
    """List, show and replay what the services refused; pass what they cannot read."""
