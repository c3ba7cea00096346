"""``tunestream dlq replay``."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.markup import escape

from tunestream.cli.dlq.options import ReasonOption, RunOption, TopicOption, find_letters, read_letters
from tunestream.cli.errors import Failure
from tunestream.cli.output import DryRunOption, JsonOption, emit, note
from tunestream.config.settings import KafkaSettings
from tunestream.streams.dead_letters import why_final
from tunestream.streams.publish import EventProducer
from tunestream.streams.replay import DeadLetter, replayed

__all__ = ["replay"]


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
    chosen = find_letters(letters) if letters else read_letters(topic, reason, run)
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


async def _send(settings: KafkaSettings, letters: Sequence[DeadLetter]) -> None:
    async with EventProducer(settings) as producer:
        for letter in letters:
            await producer.send(replayed(letter))


def _refusal(letter: DeadLetter) -> str:
    return f"{letter.name} is final ({letter.code}): {why_final(letter.code)}"
