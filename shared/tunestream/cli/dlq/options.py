"""Which dead letters a command is about, and how one of them is shown in a line."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from tunestream.cli.errors import Failure
from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import format_time
from tunestream.streams.replay import SOURCES, DeadLetter, dead_letters

__all__ = [
    "LetterArgument",
    "ReasonOption",
    "RunOption",
    "TopicOption",
    "find_letters",
    "read_letters",
    "row",
]

LetterArgument = Annotated[str, typer.Argument(metavar="LETTER", help="As dlq list names it.")]
TopicOption = Annotated[
    str | None, typer.Option("--topic", metavar="TOPIC", help=f"Only from this topic: {', '.join(SOURCES)}.")
]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", metavar="CODE", help="Only this reason, or its family: schema.")
]
RunOption = Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only this run's.")]


def find_letters(names: Sequence[str]) -> list[DeadLetter]:
    """Return the dead letters of these names, each once.

    Raises:
        Failure: when there is none of a name.
    """
    sources = {name.partition("/")[0] for name in names}
    if unknown := sources.difference(SOURCES):
        raise Failure(
            f"no topic {', '.join(sorted(unknown))} has dead letters", remedy="Name them as dlq list does."
        )
    found = {letter.name: letter for source in sources for letter in read_letters(source, None, None)}
    if missing := [name for name in names if name not in found]:
        raise Failure(f"no dead letter {', '.join(missing)}", remedy="tunestream dlq list")
    return [found[name] for name in dict.fromkeys(names)]


def read_letters(source: str | None, reason: str | None, run: str | None) -> list[DeadLetter]:
    """Return the dead letters that fit, the oldest first."""
    if source is not None and source not in SOURCES:
        raise typer.BadParameter(f"there are {', '.join(SOURCES)}", param_hint="--topic")
    letters = asyncio.run(_read_all(KafkaSettings(), SOURCES if source is None else (source,)))
    return [
        letter
        for letter in letters
        if reason in (None, letter.code, letter.code.partition(".")[0]) and run in (None, letter.run_id)
    ]


async def _read_all(settings: KafkaSettings, sources: Sequence[str]) -> list[DeadLetter]:
    letters = [letter for source in sources async for letter in dead_letters(settings, source)]
    return sorted(letters, key=lambda letter: (letter.time, letter.name))


def row(letter: DeadLetter) -> dict[str, Any]:
    """Return what a list shows of a dead letter."""
    return {
        "letter": letter.name,
        "time": format_time(letter.time),
        "run": letter.run_id,
        "reason": letter.code,
        "replayable": not letter.final,
        "message": letter.message,
    }
