"""The frame of the command: which module holds which command, and what its errors become.

A command's module has ``register(app)``, which adds its commands to a Typer app. It is imported when
one of its commands is called, so that ``tunestream --help`` imports none of them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from tunestream import __version__
from tunestream.cli.errors import failure_of
from tunestream.cli.logs import quiet_client
from tunestream.cli.output import note

__all__ = ["COMMANDS", "app", "load", "main"]

# command → (its module, the first line of its help)
COMMANDS: Final = {
    "up": ("up", "Run the services, with the embedded broker or with KAFKA_BOOTSTRAP_SERVERS."),
    "service": ("service", "Run one service in the foreground."),
    "demo": ("demo", "Watch a small model get better at tic-tac-toe while it plays."),
    "run": ("run", "Apply, list, show and check the configurations of runs."),
    "experiment": (
        "experiment.app",
        "Fine-tune and judge models from a file of examples, one or a grid of them.",
    ),
    "publish": ("publish", "Publish recorded events to a run."),
    "status": ("status", "Print the statuses of training jobs."),
    "jobs": ("jobs.commands", "List, show, submit, cancel and await training jobs."),
    "models": ("models.commands", "List, trace, compare, export and promote model versions."),
    "trajectories": ("trajectories", "Export what the pair builder made of a run's turns."),
    "dlq": (
        "dlq.commands",
        "Count, list, show, replay and delete what the services refused; pass what they cannot read.",
    ),
    "doctor": ("doctor", "Check the deployment and show the remedy for what is wrong."),
    "topics": ("topics", "Create, list and compare the topics."),
    "streams": ("streams", "Set where services stand in their inputs."),
    "upgrade": ("upgrade", "Show and finish the upgrade of a deployment."),
    "serve": ("serve", "Serve a base model for development: OpenAI's completions, vLLM's adapter routes."),
    "kafka": ("kafka", "Run a real Apache Kafka in a folder, without installing it."),
    "pairs": ("offline", "Make preference pairs of recorded events."),
    "curriculum": (
        "offline",
        "Run the curriculum over epochs of groups, its state carried from line to line.",
    ),
}


def load(name: str) -> TyperCommand | TyperGroup:
    """Import a command."""
    holder = typer.Typer()
    holder.callback()(lambda: None)
    import_module(f"tunestream.cli.{COMMANDS[name][0]}").register(holder)
    group = typer.main.get_group(holder)
    command = group.commands[name]
    assert isinstance(command, TyperCommand | TyperGroup)
    return command


class _Lazy(TyperCommand):
    """Stands for a command in lists; the command itself is imported when it gets arguments."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        assert self.name is not None
        return load(self.name).make_context(info_name, args, parent=parent, **extra)


class _Commands(TyperGroup):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, (_, text) in COMMANDS.items():
            self.add_command(_Lazy(name, help=text))

    def invoke(self, ctx: Any) -> Any:
        """Run the command; report what the user can mend in one line instead of a traceback."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise
            note(f"[bold red]error:[/] {failure.markup}")
            raise typer.Exit(failure.exit_code) from error


app = typer.Typer(
    cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich"
)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"{__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Continuous online fine-tuning as event-driven microservices.

    Exit codes: 0 ok, 1 your fault or a failed run, 2 usage, 3 try again later (the broker is away, or
    time is out), 4 a canceled job.
    """
    quiet_client()


def main() -> None:
    """Run the command line and exit."""
    app(prog_name="tunestream")
