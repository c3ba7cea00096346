"""``tunestream dlq purge``."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from tunestream.cli.brokers import BrokersOption, broker_settings
from tunestream.cli.dlq.options import TopicOption, check_topic
from tunestream.cli.errors import Failure
from tunestream.cli.output import DryRunOption, JsonOption, emit, note, show
from tunestream.cli.times import past_time
from tunestream.events.cloudevents import format_time
from tunestream.streams.letters.letter import SOURCES
from tunestream.streams.letters.purging import Purge, plan_purge
from tunestream.streams.letters.purging import purge as delete_letters

__all__ = ["purge"]


def purge(
    before: Annotated[
        str,
        typer.Option(
            "--before", metavar="TIME", help="Delete what is older: 7d, 2026-01-02 or 2026-01-02T03:04:05Z."
        ),
    ],
    topic: TopicOption = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: DryRunOption = False,
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete old dead letters for ever.

    Of each partition the letters before the first one of that time or later are deleted.
    """
    check_topic(topic)
    settings = broker_settings(brokers)
    limit = past_time(before, time.time_ns() // 1_000_000, "--before")
    plans = asyncio.run(plan_purge(settings, SOURCES if topic is None else (topic,), limit))
    count = sum(plan.letters for plan in plans)
    if not as_json:
        show(
            _rows(plans), as_json=False, columns=("topic", "partition", "letters"), empty="Nothing is older."
        )
    if plans and not dry_run:
        _confirm(f"Delete {count} dead letters from before {format_time(limit)}?", yes=yes)
        asyncio.run(delete_letters(settings, plans))
    if as_json:
        emit({"deleted": count, "partitions": _rows(plans), "dry_run": dry_run})
    else:
        note(f"{count} {'would be deleted' if dry_run else 'deleted'}")


def _confirm(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise Failure(f"nothing was deleted; {question}", remedy="Add --yes, or --dry-run to see what is.")
    typer.confirm(question, abort=True, err=True)


def _rows(plans: Sequence[Purge]) -> list[dict[str, Any]]:
    return [{"topic": row.pop("source"), **row} for row in map(asdict, plans)]
