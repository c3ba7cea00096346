"""``tunestream doctor``: what is wrong with a deployment, and the remedy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import typer
from rich.markup import escape

from tunestream.cli.doctor_checks import Check, check_lag, check_packages, check_services, check_topics
from tunestream.cli.output import JsonOption, console, emit
from tunestream.config.settings import KafkaSettings
from tunestream.streams.admin import BrokerUnavailableError

__all__ = ["register"]

_BROKER_AWAY: Final = 3
_MARKS: Final = {True: "[green]✓[/]", False: "[red]✗[/]", None: "[dim]·[/]"}


def register(app: typer.Typer) -> None:
    """Add ``doctor`` to ``app``."""
    app.command("doctor")(doctor)


def doctor(as_json: JsonOption = False) -> None:
    """Check the deployment and show the remedy for what is wrong.

    Looks at packages, broker, topics, how far the services are behind, and the services of this machine.
    """
    checks, away = asyncio.run(_examine(KafkaSettings()))
    if as_json:
        emit([asdict(check) for check in checks])
    else:
        _draw(checks)
    if away:
        raise typer.Exit(_BROKER_AWAY)
    if any(check.ok is False for check in checks):
        raise typer.Exit(1)


async def _examine(settings: KafkaSettings) -> tuple[list[Check], bool]:
    """Return the findings, and whether the broker is away."""
    checks = check_packages()
    try:
        topics = await check_topics(settings)
    except BrokerUnavailableError as error:
        return [*checks, Check("broker", False, error.problem, error.remedy)], True
    checks += topics
    if all(check.ok for check in topics):
        checks += await check_lag(settings)
    return [*checks, *await check_services()], False


def _draw(checks: Sequence[Check]) -> None:
    for check in checks:
        line = f"{_MARKS[check.ok]} [bold]{escape(check.name)}[/]  {escape(check.finding)}"
        console().print(line, soft_wrap=True, highlight=False)
        if check.remedy:
            console().print(f"  → {escape(check.remedy)}", soft_wrap=True, highlight=False)
