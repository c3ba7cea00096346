"""``tunestream dlq replay``."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.markup import escape

from tunestream.cli.brokers import BrokersOption, broker_settings
from tunestream.cli.dlq.options import (
    ReasonOption,
    RunOption,
    TopicOption,
    choice,
    find_letters,
    read_letters,
)
from tunestream.cli.errors import Failure
from tunestream.cli.output import DryRunOption, JsonOption, emit, note
from tunestream.config.settings import KafkaSettings
from tunestream.streams.letters.letter import DeadLetter
from tunestream.streams.letters.marks import read_marks
from tunestream.streams.letters.replaying import Overtaken, Replayed
from tunestream.streams.letters.replaying import replay as send_again

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
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send dead letters again, once their cause is mended; each once, however often this is run.

    Name letters, or choose them by --topic, --reason and --run, or --all. Letters that no change on our
    side mends are refused: those that are named or asked for by their reason end the command with exit
    code 1 before anything is sent, others are left out and counted.
    """
    if not (letters or every or topic or reason or run):
        raise typer.BadParameter("name letters, or choose them by an option", param_hint="LETTER")
    settings = broker_settings(brokers)
    if letters:
        chosen = [stored.letter for stored in find_letters(settings, letters)]
    else:
        chosen = asyncio.run(read_letters(settings, choice(topic, reason, run)))
    final = [letter for letter in chosen if letter.final]
    if final and (letters or reason):
        raise Failure("\n".join(_refusal(letter) for letter in final))
    sendable = [letter for letter in chosen if not letter.final]
    done = asyncio.run(_rehearse(settings, sendable) if dry_run else _send(settings, sendable))
    _report(done, final, dry_run=dry_run, as_json=as_json)


async def _rehearse(settings: KafkaSettings, letters: Sequence[DeadLetter]) -> Replayed:
    """Return what would be sent now."""
    marks = await read_marks(settings)
    done = Replayed()
    for letter in letters:
        (done.sent if marks.replayed(letter) is None else done.before).append(letter)
    return done


async def _send(settings: KafkaSettings, letters: Sequence[DeadLetter]) -> Replayed:
    try:
        return await send_again(settings, letters)
    except Overtaken as error:
        raise Failure(
            str(error), remedy="Run it again: what was sent is marked, and is not sent twice"
        ) from error


def _report(done: Replayed, final: Sequence[DeadLetter], *, dry_run: bool, as_json: bool) -> None:
    left = Counter(letter.code for letter in final)
    why = {letter.code: letter.why_final for letter in final}
    if as_json:
        emit(
            {
                "replayed": [letter.name for letter in done.sent],
                "replayed_before": len(done.before),
                "deleted": len(done.gone),
                "refused": left,
                "dry_run": dry_run,
            }
        )
        return
    for code, count in sorted(left.items()):
        note(f"left out with the reason {escape(code)}: {count}; {why[code]}")
    if done.before:
        note(f"left out, since they were replayed before: {len(done.before)}")
    if done.gone:
        note(f"{len(done.gone)} were deleted meanwhile")
    note(f"{len(done.sent)} {'would be replayed' if dry_run else 'replayed'}")


def _refusal(letter: DeadLetter) -> str:
    return f"{letter.name} is final ({letter.code}): {letter.why_final}"
