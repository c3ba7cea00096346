"""How commands print: data on stdout, everything else on stderr.

With ``--json`` stdout holds JSON and nothing else: one document, or one a line where a command follows
something. Without it tables are drawn by Rich.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = [
    "DryRunOption",
    "JsonOption",
    "console",
    "emit",
    "emit_line",
    "leaves",
    "logs",
    "note",
    "show",
    "table",
    "warn",
    "write_columns",
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would change and change nothing.")]


# Of lines that nobody looks at on a screen: tables in a pipe or a file are not folded.
_PIPED_WIDTH: Final = 1000


def console() -> Console:
    """Return the console of stdout, as it is now."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def logs() -> Console:
    """Return the console of stderr, for notes, progress and logs."""
    return Console(file=sys.stderr)


def note(markup: str) -> None:
    """Print a line on stderr, in Rich markup; escape what comes from outside."""
    logs().print(markup, soft_wrap=True, highlight=False)


def warn(text: str) -> None:
    """Print a warning on stderr; it is no markup."""
    note(f"[yellow]{escape(text)}[/]")


def emit(document: object) -> None:
    """Print one JSON document; it may hold pydantic models, dataclasses and times."""
    _print_json(document, indent=2)


def emit_line(document: object) -> None:
    """Print one JSON document on a line of its own, at once."""
    _print_json(document, indent=None)


def _print_json(document: object, *, indent: int | None) -> None:
    from pydantic_core import to_json  # noqa: PLC0415 - help is fast without it

    sys.stdout.write(to_json(document, indent=indent).decode() + "\n")
    sys.stdout.flush()


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield every scalar and empty container of a document with its dotted path, as origins name it."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}".removeprefix("."))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{index}]")
    else:
        yield path, value


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> Table:
    """Return a table; None is an empty cell, and no cell is read as markup."""
    drawn = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*("" if cell is None else escape(str(cell)) for cell in row))
    return drawn


def show(
    rows: Sequence[Mapping[str, Any]], *, as_json: bool, columns: Sequence[str], empty: str = "nothing"
) -> None:
    """Print rows: all their fields as a JSON array, or the columns as a table."""
    if as_json:
        emit(rows)
    elif not rows:
        note(empty)
    else:
        console().print(table(columns, ([row.get(column) for column in columns] for row in rows)))


def write_columns(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows on stdout as plain columns, whole and unfolded: a hundred thousand take a second.

    Control characters are escaped.
    """
    lines = [columns, *([_cell(row[column]) for column in columns] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    sys.stdout.writelines("  ".join(map(str.ljust, line, widths)).rstrip() + "\n" for line in lines)
    sys.stdout.flush()


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return text if text.isprintable() else text.encode("unicode_escape").decode()
