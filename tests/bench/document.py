"""The tables of ``docs/performance.md``, written from a run's JSON between two marks."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.bench.picture import draw
from tests.bench.results import Figure, Report

__all__ = ["render", "write_between", "write_docs"]

PAGE: Final = Path(__file__).parents[2] / "docs" / "performance.md"
_BEGIN: Final = "<!-- written by python -m tests.bench --write-docs; do not edit -->"
_END: Final = "<!-- end -->"


def write_docs(results: Path) -> None:
    """Write the results into the page, and draw its picture when the run has what it shows.

    Raises:
        ValueError: when the run was a quick one, or the page has lost its marks.
    """
    report = Report.read(results)
    if report.quick:
        raise ValueError(f"{results} is of a quick run, which is not to be quoted; run without --quick")
    write_between(PAGE, _BEGIN, render(report))
    draw(report)


def write_between(page: Path, begin: str, text: str) -> None:
    """Put a text between the mark ``begin`` and the next end mark of a page.

    Raises:
        ValueError: when the page has lost its marks.
    """
    before, _, rest = page.read_text("utf-8").partition(begin)
    _, end, after = rest.partition(_END)
    if not end:
        raise ValueError(f"{page} has no marks {begin} and {_END}")
    page.write_text(f"{before}{begin}\n\n{text}\n{_END}{after}", "utf-8")


def render(report: Report) -> str:
    """Return the tables in Markdown: the bars first, then what explains them."""
    parts = [
        _machine(report),
        _table(report, barred=True),
        "Figures without a bar:\n",
        _table(report, barred=False),
    ]
    parts += [f"`{name}` failed: {reason}\n" for name, reason in report.failed.items()]
    return "\n".join(parts)


def _machine(report: Report) -> str:
    machine = report.machine
    return (
        f"{machine['date']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}; load "
        f"average {machine['load_average_before'][0]} before and {machine['load_average_after'][0]} after.\n"
    )


def _table(report: Report, *, barred: bool) -> str:
    lines = ["| benchmark | figure | bar | median | rounds | reached |", "|---|---|---|---|---|---|"]
    lines += [_line(figure) for figure in report.figures if (figure.bar is not None) == barred]
    return "\n".join(lines) + "\n"


def _line(figure: Figure) -> str:
    name = f"{figure.name} ({figure.note})" if figure.note else figure.name
    bar = "" if figure.bar is None else str(figure.bar)
    verdict = {None: "", True: "yes", False: "**no**"}[figure.reached]
    return f"| {figure.benchmark} | {name} | {bar} | {figure.text} | {figure.spread} | {verdict} |"
