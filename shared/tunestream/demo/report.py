"""The demo's ending: a table on the terminal, a picture, a page and the numbers as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tunestream.demo.evaluation import GAMES, Outcomes
from tunestream.demo.page import write_page
from tunestream.demo.picture import draw
from tunestream.demo.results import DemoResults
from tunestream.reporting.plots import write_png

__all__ = ["ReportFiles", "render", "write_report"]


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """Where the report is."""

    picture: Path
    page: Path
    numbers: Path


def write_report(results: DemoResults, folder: Path) -> ReportFiles:
    """Write picture, page and numbers into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    files = ReportFiles(folder / "demo.png", folder / "demo.html", folder / "demo.json")
    write_png(draw(results), files.picture)
    write_page(results, files.page)
    files.numbers.write_text(json.dumps(results.document(), indent=2) + "\n", encoding="utf-8")
    return files


def render(results: DemoResults) -> RenderableType:
    """Return the tables and the verdict for a Rich console."""
    verdict = Text(results.verdict, style="bold green" if results.passed else "bold red")
    return Group(_versions(results), "", _outcomes(results), "", verdict)


def _versions(results: DemoResults) -> Table:
    boards = len(results.strengths[0].optimal)
    table = Table(
        title=f"Optimal moves on {boards} test boards ({results.method})", box=None, title_justify="left"
    )
    for name in ("#", "version", "optimal", "95 % interval", "illegal"):
        table.add_column(name, justify="left" if name == "version" else "right")
    for each in results.strengths:
        rate = each.interval
        interval = f"{rate.low:.1%} to {rate.high:.1%}"
        name = each.version[:12] if each.version else "base"
        table.add_row(str(each.number), name, f"{rate.mean:.1%}", interval, str(each.illegal))
    return table


def _outcomes(results: DemoResults) -> Table:
    table = Table(title=f"{GAMES} games against a random opponent", box=None, title_justify="left")
    table.add_column("")
    for name in ("win", "draw", "loss", "illegal"):
        table.add_column(name, justify="right")
    last = f"version {results.strengths[-1].number}"
    for label, outcomes in (("base", results.before), (last, results.after)):
        table.add_row(label, *_shares(outcomes))
    return table


def _shares(outcomes: Outcomes) -> Iterator[str]:
    return (f"{share:.1%}" for share in astuple(outcomes))
