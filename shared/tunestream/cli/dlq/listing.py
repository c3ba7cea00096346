"""``tunestream dlq``: dead letters counted, and listed."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from tunestream.cli.brokers import BrokersOption, broker_settings
from tunestream.cli.dlq.options import (
    ReasonOption,
    RunOption,
    SinceOption,
    TopicOption,
    choice,
    read_letters,
    row,
)
from tunestream.cli.output import JsonOption, emit, note, show, write_columns
from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import format_time
from tunestream.streams.letters.letter import DeadLetter
from tunestream.streams.letters.marks import Marks, read_marks
from tunestream.streams.letters.reading import Choice
from tunestream.streams.letters.summary import ReasonCount, summary

__all__ = ["list_", "summarise"]


def list_(
    topic: TopicOption = None,
    reason: ReasonOption = None,
    run: RunOption = None,
    since: SinceOption = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="At most so many, the first ones.")
    ] = None,
    *,
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, in order of topic, partition and offset."""
    wanted = choice(topic, reason, run, since)
    letters, marks = asyncio.run(
        _read(broker_settings(brokers), wanted, None if limit is None else limit + 1)
    )
    rows = [row(letter, marks) for letter in letters[:limit]]
    if as_json:
        emit(rows)
    elif not rows:
        note("No dead letters.")
    else:
        write_columns(("letter", "time", "run", "reason", "replayable", "replayed", "message"), rows)
    if len(letters) > len(rows):
        note(f"There are more than {limit}.")


async def _read(settings: KafkaSettings, wanted: Choice, limit: int | None) -> tuple[list[DeadLetter], Marks]:
    return await read_letters(settings, wanted, limit), await read_marks(settings)


def summarise(
    settings: KafkaSettings, topic: str | None, run: str | None, since: str | None, *, as_json: bool
) -> None:
    """Count dead letters by topic and reason, the most frequent first."""
    wanted = choice(topic, None, run, since)
    rows = [_counted(one) for one in asyncio.run(summary(settings, wanted))]
    columns = ("count", "topic", "reason", "replayable", "replayed", "first", "last")
    show(rows, as_json=as_json, columns=columns, empty="No dead letters.")


def _counted(one: ReasonCount) -> dict[str, Any]:
    return {
        "count": one.count,
        "topic": one.source,
        "reason": one.code,
        "replayable": not one.final,
        "replayed": one.replayed,
        "first": format_time(one.first),
        "last": format_time(one.last),
    }
