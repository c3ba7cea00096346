"""What a stage costs by the shape of a turn, as the picture of ``docs/performance.md``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.bench.results import Report
from tunestream.reporting.plots import ACCENT, GRID, new_figure, write_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PICTURE", "draw"]

PICTURE: Final = Path(__file__).parents[2] / "docs" / "images" / "performance.png"
_NAME: Final = re.compile(r"(\w+), (\d+) candidates a turn, prompt of ([\d,]+) characters: CPU")
_SECOND: Final = "#ea580c"
_COLOURS: Final = {"ttc_collector": ACCENT, "pair_builder": _SECOND}
_USUAL_SIZE: Final = 4
_USUAL_PROMPT: Final = 1_000


def draw(report: Report, path: Path = PICTURE) -> bool:
    """Draw CPU seconds per million candidates by candidates a turn and by length of the prompt.

    Args:
        report: of a run; the figures of ``turn-sizes`` are drawn.
        path: of the picture.

    Returns:
        Whether the run has what is drawn.
    """
    points = [
        (match[1], int(match[2]), int(match[3].replace(",", "")), figure.value)
        for figure in report.figures
        if figure.benchmark == "turn-sizes" and (match := _NAME.fullmatch(figure.name))
    ]
    if not points:
        return False
    figure = new_figure(10, 3.8, padding=0.12)
    left, right = figure.subplots(1, 2, sharey=True)
    for service, colour in _COLOURS.items():
        label = service.replace("_", " ")
        sizes = sorted(
            (n, cpu) for one, n, prompt, cpu in points if one == service and prompt == _USUAL_PROMPT
        )
        prompts = sorted(
            (prompt, cpu) for one, n, prompt, cpu in points if one == service and n == _USUAL_SIZE
        )
        left.plot(*zip(*sizes, strict=True), color=colour, marker="o", label=label)
        right.plot(*zip(*prompts, strict=True), color=colour, marker="o", label=label)
    _axes(left, "candidates a turn (prompt of 1,000 characters)")
    _axes(right, "characters of the prompt (4 candidates a turn)")
    left.set_ylabel("CPU seconds per million candidates")
    left.legend(frameon=False)
    write_png(figure, path)
    return True


def _axes(axes: Axes, label: str) -> None:
    axes.set(xscale="log", xlabel=label)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color=GRID)
