"""``tunestream doctor``: what is wrong with a deployment, and the remedy."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any, Final

import typer
from rich.markup import escape

from tunestream.cli.brokers import BrokersOption, broker_settings, deployment_here
from tunestream.cli.output import JsonOption, console, emit
from tunestream.cli.service_processes import package_of, port_of
from tunestream.config.settings import StoreSettings
from tunestream.overview.deployment import Deployment
from tunestream.overview.examine import Site, examine
from tunestream.overview.findings import Finding, State
from tunestream.topics import SERVICES

__all__ = ["register"]

_BROKER_AWAY: Final = 3
_MARKS: Final = {State.OK: "[green]✓[/]", State.WARN: "[yellow]![/]", State.FAIL: "[red]✗[/]"}
_OK: Final = {State.OK: True, State.WARN: None, State.FAIL: False}


def register(app: typer.Typer) -> None:
    """Add ``doctor`` to ``app``."""
    app.command("doctor")(doctor)


def doctor(brokers: BrokersOption = None, as_json: JsonOption = False) -> None:
    """Check the deployment and show the remedy for what is wrong.

    Looks at packages, disks and the artifact store of this machine; broker and topics; the services that
    `tunestream up` runs in this folder, or those at its usual ports; what waits and is not handled, what was
    refused within the last hour, failed jobs, base models and model servers. Exit code 1 when something is
    wrong, 3 when no broker answers.
    """
    here = deployment_here()
    site = Site(
        kafka=broker_settings(brokers),
        artifacts=_artifacts(here),
        here=here,
        usual={package_of(service): f"http://127.0.0.1:{port_of(service)}" for service in SERVICES},
    )
    examination = asyncio.run(examine(site))
    if as_json:
        emit([_row(finding) for finding in examination.findings])
    else:
        _draw(examination.findings)
    if examination.away:
        raise typer.Exit(_BROKER_AWAY)
    if not examination.ok:
        raise typer.Exit(1)


def _artifacts(here: Deployment | None) -> str:
    """Return the store of this folder's deployment, unless the environment names one."""
    if here is None or "TUNESTREAM_ARTIFACTS" in os.environ:
        return StoreSettings().artifacts
    return here.artifacts


def _row(finding: Finding) -> dict[str, Any]:
    return {
        "name": finding.name,
        "state": finding.state,
        "ok": _OK[finding.state],
        "finding": finding.text,
        "remedy": finding.remedy,
    }


def _draw(findings: Sequence[Finding]) -> None:
    for finding in findings:
        line = f"{_MARKS[finding.state]} [bold]{escape(finding.name)}[/]  {escape(finding.text)}"
        console().print(line, soft_wrap=True, highlight=False)
        if finding.remedy:
            console().print(f"  → {escape(finding.remedy)}", soft_wrap=True, highlight=False)
