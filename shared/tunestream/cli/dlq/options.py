"""Which dead letters a command is about, and what it shows of one of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import Annotated, Any

import typer

from tunestream.cli.errors import Failure
from tunestream.cli.times import past_time
from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import format_time
from tunestream.streams.letters.letter import SOURCES, DeadLetter
from tunestream.streams.letters.marks import Marks
from tunestream.streams.letters.reading import Choice, StoredLetter, chosen_letters, named_letters

__all__ = [
    "ReasonOption",
    "RunOption",
    "SinceOption",
    "TopicOption",
    "check_topic",
    "choice",
    "find_letters",
    "read_letters",
    "row",
]

TopicOption = Annotated[
    str | None, typer.Option("--topic", metavar="TOPIC", help=f"Only from this topic: {', '.join(SOURCES)}.")
]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", metavar="CODE", help="Only this reason, or its family: schema.")
]
RunOption = Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only this run's.")]
SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="TIME", help="Only from this time on: 1h, 2026-01-02 or 2026-01-02T03:04:05Z."
    ),
]


def choice(
    topic: str | None = None, reason: str | None = None, run: str | None = None, since: str | None = None
) -> Choice:
    """Return what the options choose.

    Raises:
        typer.BadParameter: when there is no such topic, or no such time.
    """
    check_topic(topic)
    earliest = None if since is None else past_time(since, time.time_ns() // 1_000_000, "--since")
    return Choice(source=topic, reason=reason, run_id=run, since=earliest)


def check_topic(topic: str | None) -> None:
    """Refuse a topic that has no dead letters.

    Raises:
        typer.BadParameter: with those that have.
    """
    if topic is not None and topic not in SOURCES:
        raise typer.BadParameter(f"there are {', '.join(SOURCES)}", param_hint="--topic")


async def read_letters(settings: KafkaSettings, wanted: Choice, limit: int | None = None) -> list[DeadLetter]:
    """Return dead letters in order of topic, partition and offset; the first ``limit`` of them."""
    found: list[DeadLetter] = []
    async with aclosing(chosen_letters(settings, wanted)) as letters:
        async for letter in letters:
            if limit is not None and len(found) == limit:
                break
            found.append(letter)
    return found


def find_letters(settings: KafkaSettings, names: Sequence[str]) -> list[StoredLetter]:
    """Return the dead letters of these names, each once.

    Raises:
        Failure: when there is none of a name.
    """
    places = {name: _place(name) for name in names}
    found = asyncio.run(_read_named(settings, list(places.values())))
    if missing := [name for name in places if name not in found]:
        raise Failure(f"no dead letter {', '.join(missing)}", remedy="tunestream dlq list")
    return [found[name] for name in places]


def _place(name: str) -> tuple[str, int, int]:
    source, *numbers = name.split("/")
    if source not in SOURCES:
        raise Failure(f"no topic {source} has dead letters", remedy="Name them as dlq list does.")
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        raise Failure(f"{name} is not TOPIC/PARTITION/OFFSET", remedy="Name them as dlq list does.")
    return source, int(numbers[0]), int(numbers[1])


async def _read_named(
    settings: KafkaSettings, places: Sequence[tuple[str, int, int]]
) -> dict[str, StoredLetter]:
    return {stored.letter.name: stored async for stored in named_letters(settings, places)}


def row(letter: DeadLetter, marks: Marks) -> dict[str, Any]:
    """Return what a list shows of a dead letter."""
    replayed = marks.replayed(letter)
    return {
        "letter": letter.name,
        "time": format_time(letter.time),
        "run": letter.run_id,
        "reason": letter.code,
        "replayable": not letter.final,
        "replayed": None if replayed is None else format_time(int(replayed.timestamp() * 1000)),
        "message": letter.message,
    }
