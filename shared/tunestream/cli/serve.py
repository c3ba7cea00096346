"""``tunestream serve``: a development model server on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from tunestream.cli.extras import check_extra
from tunestream.cli.output import note

__all__ = ["register", "server_command"]

_NEEDED: Final = ("fastapi", "uvicorn", "torch", "transformers", "peft")

ModelArgument = Annotated[
    Path, typer.Argument(metavar="MODEL", exists=True, file_okay=False, help="Folder of the base model.")
]
NameOption = Annotated[
    str | None,
    typer.Option("--name", metavar="NAME", help="Model name in requests; by default its folder's name."),
]
HostOption = Annotated[str, typer.Option("--host", help="Address to listen on.")]
PortOption = Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of requests that bring none.")]


def register(app: typer.Typer) -> None:
    """Add ``serve`` to ``app``."""
    app.command("serve")(serve)


def serve(
    model: ModelArgument,
    name: NameOption = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    seed: SeedOption = 0,
) -> None:
    """Serve a base model for development: OpenAI's completions, vLLM's adapter routes.

    It has no authentication, and loads any folder that a request names: keep it on this machine. It runs
    until Ctrl-C or SIGTERM.
    """
    check_extra("server", *_NEEDED)
    command = server_command(model, name or model.resolve().name, host=host, port=port, seed=seed)
    note(f"loading {model}; then http://{host}:{port}/v1 answers")
    os.execv(command[0], command)  # noqa: S606 - this process becomes the server and loads torch there


def server_command(
    model: Path, name: str, *, port: int, host: str = "127.0.0.1", seed: int = 0
) -> tuple[str, ...]:
    """Return the command of a development server's process."""
    where = ("--host", host, "--port", str(port), "--seed", str(seed))
    return (sys.executable, "-m", "tunestream.devserver", "--model", str(model), "--name", name, *where)
