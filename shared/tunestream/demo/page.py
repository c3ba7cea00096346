"""The demo's results as one HTML page that needs nothing beside itself."""

from __future__ import annotations

from pathlib import Path

from tunestream.demo.picture import draw
from tunestream.demo.results import DemoResults, points
from tunestream.reporting.html import render_page
from tunestream.reporting.plots import svg_of

__all__ = ["write_page"]


def write_page(results: DemoResults, path: Path) -> None:
    """Write the page to a file."""
    page = render_page(
        "tunestream.demo",
        "demo.html.j2",
        title=f"A small model {'got better at' if results.passed else 'played'} tic-tac-toe",
        status="improved" if results.passed else "unimproved",
        word="improved" if results.passed else "no measurable improvement",
        sentence=_sentence(results),
        tiles=_tiles(results),
        picture=svg_of(draw(results)),
        results=results,
    )
    path.write_text(page, encoding="utf-8")


def _sentence(results: DemoResults) -> str:
    return (
        f"From the base model to version {results.strengths[-1].number}, by {results.method}, optimal "
        f"moves on boards it never trained on changed by {points(results.gain)}."
    )


def _tiles(results: DemoResults) -> list[tuple[str, str]]:
    activity = results.activity
    first, last = results.strengths[0].interval.mean, results.strengths[-1].interval.mean
    return [
        (f"{first:.1%} → {last:.1%}", "optimal moves"),
        (f"{results.before.loss:.1%} → {results.after.loss:.1%}", "games lost"),
        (f"{activity.games:,}", "games played"),
        (f"{activity.trajectories:,}", results.unit),
        (f"{activity.seconds:.0f} s", "from first game to last version"),
    ]
