"""``tunestream dlq show``."""

from __future__ import annotations

from base64 import b64encode

from tunestream.cli.dlq.options import LetterArgument, find_letters, row
from tunestream.cli.output import JsonOption, console, emit, table

__all__ = ["show_"]


def show_(letter: LetterArgument, as_json: JsonOption = False) -> None:
    """Show one dead letter with its original headers and body."""
    found = find_letters([letter])[0]
    document = row(found) | {
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


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")
