"""``tunestream dlq show``."""

from __future__ import annotations

import asyncio
import sys
from base64 import b64encode
from typing import Annotated, Any

import typer
from rich.json import JSON
from rich.text import Text

from tunestream.cli.brokers import BrokersOption, broker_settings
from tunestream.cli.dlq.options import find_letters, row
from tunestream.cli.output import JsonOption, console, emit, table
from tunestream.config.settings import KafkaSettings
from tunestream.streams.letters.marks import read_marks
from tunestream.streams.letters.reading import StoredLetter

__all__ = ["show_"]


def show_(
    letter: Annotated[str, typer.Argument(metavar="LETTER", help="As dlq list names it.")],
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter with its original headers and body.

    In a pipe or a file the body is the last part, after an empty line, byte for byte.
    """
    settings = broker_settings(brokers)
    stored = find_letters(settings, [letter])[0]
    document = _document(settings, stored)
    body = stored.record.value or b""
    if as_json:
        emit(document | {"body": _text(body), "body_base64": b64encode(body).decode()})
        return
    headers = document.pop("headers")
    rows = [*document.items(), *((f"header {name}", value) for name, value in headers.items())]
    screen = console()
    screen.print(table(["", ""], rows))
    screen.print()
    if sys.stdout.isatty():
        screen.print(_pretty(body))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(body + b"\n")
        sys.stdout.buffer.flush()


def _document(settings: KafkaSettings, stored: StoredLetter) -> dict[str, Any]:
    letter = stored.letter
    return row(letter, asyncio.run(read_marks(settings))) | {
        "service": f"{letter.service} {letter.version}",
        "origin": f"{letter.source}/{letter.source_partition}/{letter.source_offset}",
        "key": _text(stored.record.key),
        "headers": {name: _text(value) for name, value in stored.headers},
    }


def _pretty(body: bytes) -> JSON | Text:
    try:
        return JSON(body.decode())
    except ValueError:
        return Text(_text(body) or "")


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")
