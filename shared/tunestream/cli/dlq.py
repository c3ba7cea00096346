"""``tunestream dlq``: what the services refused."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.markup import escape

from tunestream.cli.errors import Failure
from tunestream.cli.output import DryRunOption, JsonOption, console, emit, note, show, table
from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import format_time
from tunestream.streams.dead_letters import why_final
from tunestream.streams.publish import EventProducer
from tunestream.streams.replay import SOURCES, DeadLetter, dead_letters, replayed

__all__ = ["register"]

TopicOption = Annotated[
    str | None, typer.Option("--topic", metavar="TOPIC", help=f"Only from this topic: {', '.join(SOURCES)}.")
]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", metavar="CODE", help="Only this reason, or its family: schema.")
]
RunOption = Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only this run's.")]

_dlq = typer.Typer(no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add ``dlq`` to ``app``."""
    app.add_typer(_dlq, name="dlq")


@_dlq.callback()
def dlq() -> None:
    """List, show and replay what the services refused."""


@_dlq.command("list")
def list_(
    topic: TopicOption = None, reason: ReasonOption = None, run: RunOption = None, as_json: JsonOption = False
) -> None:
    """List dead letters, oldest first."""
    rows = [_row(letter) for letter in _read(topic, reason, run)]
    columns = ("letter", "time", "run", "reason", "replayable", "message")
    show(rows, as_json=as_json, columns=columns, empty="No dead letters.")


@_dlq.command("show")
def show_(
    letter: Annotated[str, typer.Argument(metavar="LETTER", help="As dlq list names it.")],
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter with its original headers and body."""
    found = _find([letter])[0]
    document = _row(found) | {
        "service": f"{found.service} {found.version}",
        "origin": f"{found.source}/{found.source_partition}/{found.source_offset}",
        "key": _text(found.key),
        "headers": {name: _text(value) for name, value in found.headers},
        "body": _text(found.value),
    }
    if as_json:
        emit(document | {"body_base64": b64encode(found.value or b"").decode()})
        return
    headers = document.pop("headers")
    rows = [*document.items(), *((f"header {name}", value) for name, value in headers.items())]
    console().print(table(["", ""], rows))


@_dlq.command()
def replay(
    letters: Annotated[
        list[str] | None, typer.Argument(metavar="[LETTER]...", help="As dlq list names them.")
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All that may be replayed.")] = False,
    topic: TopicOption = None,
    reason: ReasonOption = None,
    run: RunOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Send dead letters again, once their cause is mended; sent twice they count once.

    Name letters, or choose them by --topic, --reason and --run, or --all. Letters that no change on our
    side mends are refused: those that are named or asked for by their reason end the command with exit
    code 1 before anything is sent, others are left out and counted.
    """
    if not (letters or every or topic or reason or run):
        raise typer.BadParameter("name letters, or choose them by an option", param_hint="LETTER")
    chosen = _find(letters) if letters else _read(topic, reason, run)
    final = [letter for letter in chosen if letter.final]
    if final and (letters or reason):
        raise Failure("\n".join(_refusal(letter) for letter in final))
    sendable = [letter for letter in chosen if not letter.final]
    if not dry_run:
        asyncio.run(_send(KafkaSettings(), sendable))
    _report(sendable, final, dry_run=dry_run, as_json=as_json)


def _report(sent: Sequence[DeadLetter], final: Sequence[DeadLetter], *, dry_run: bool, as_json: bool) -> None:
    left = Counter(letter.code for letter in final)
    if as_json:
        emit({"replayed": [letter.name for letter in sent], "refused": left, "dry_run": dry_run})
        return
    for code, count in sorted(left.items()):
        note(f"{count} with the reason {escape(code)} are left out: {why_final(code)}")
    note(f"{len(sent)} {'would be replayed' if dry_run else 'replayed'}")


def _find(names: Sequence[str]) -> list[DeadLetter]:
    sources = {name.partition("/")[0] for name in names}
    if unknown := sources.difference(SOURCES):
        raise Failure(
            f"no topic {', '.join(sorted(unknown))} has dead letters", remedy="Name them as dlq list does."
        )
    found = {letter.name: letter for source in sources for letter in _read(source, None, None)}
    if missing := [name for name in names if name not in found]:
        raise Failure(f"no dead letter {', '.join(missing)}", remedy="tunestream dlq list")
    return [found[name] for name in dict.fromkeys(names)]


def _read(source: str | None, reason: str | None, run: str | None) -> list[DeadLetter]:
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


async def _send(settings: KafkaSettings, letters: Sequence[DeadLetter]) -> None:
    async with EventProducer(settings) as producer:
        for letter in letters:
            await producer.send(replayed(letter, time.time_ns() // 1_000_000))


def _row(letter: DeadLetter) -> dict[str, Any]:
    return {
        "letter": letter.name,
        "time": format_time(letter.time),
        "run": letter.run_id,
        "reason": letter.code,
        "replayable": not letter.final,
        "message": letter.message,
    }


def _refusal(letter: DeadLetter) -> str:
    return f"{letter.name} is final ({letter.code}): {why_final(letter.code)}"


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")
