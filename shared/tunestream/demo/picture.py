"""The demo's results as a picture."""

from __future__ import annotations

from dataclasses import astuple
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter

from tunestream.demo import game
from tunestream.demo.evaluation import GAMES
from tunestream.demo.results import DemoResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw", "write_png", "write_svg"]

INK: Final = "#1f2933"
MUTED: Final = "#7b8794"
GRID: Final = "#e4e7eb"
ACCENT: Final = "#2563eb"
OUTCOMES: Final = (("win", "#16a34a"), ("draw", "#a3b1c2"), ("loss", "#ea580c"), ("illegal", "#7f1d1d"))
_NARROW: Final = 0.06  # a share below this holds no label


def draw(results: DemoResults) -> Figure:
    """Draw optimal moves by version beside games against a random opponent before and after."""
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)  # inches
    figure = Figure(figsize=(11, 4.4), layout=layout, facecolor="white")
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    _strengths(left, results)
    _games(right, results)
    return figure


def write_png(results: DemoResults, path: Path) -> None:
    """Write the picture to a file."""
    content = BytesIO()
    draw(results).savefig(content, format="png", dpi=160)
    path.write_bytes(content.getvalue())


def write_svg(results: DemoResults) -> str:
    """Return the picture as an ``<svg>`` element for a page."""
    content = StringIO()
    draw(results).savefig(content, format="svg", transparent=True, metadata={"Date": None})
    text = content.getvalue()
    return text[text.index("<svg") :]


def _strengths(axes: Axes, results: DemoResults) -> None:
    numbers = [strength.number for strength in results.strengths]
    rates = [strength.interval for strength in results.strengths]
    means = [rate.mean for rate in rates]
    axes.fill_between(
        numbers, [rate.low for rate in rates], [rate.high for rate in rates], color=ACCENT, alpha=0.14, lw=0
    )
    axes.plot(numbers, means, color=ACCENT, lw=2.2, marker="o", ms=5.5)
    for index, offset in ((0, (0, -18)), (-1, (0, 10))):
        axes.annotate(
            f"{means[index]:.0%}", (numbers[index], means[index]), offset, textcoords="offset points",
            ha="center", color=INK, fontweight="bold",
        )  # fmt: skip
    _chance(axes, numbers[-1])
    axes.set(xlabel="model version", ylim=(min(0.4, *means) - 0.06, 1.02))
    axes.margins(x=0.06)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(axis="y", color=GRID)
    boards = len(results.strengths[0].optimal)
    _title(axes, "Optimal moves", f"{results.method}; {boards} boards never trained on; band: 95 % interval")


def _chance(axes: Axes, last: int) -> None:
    boards = game.held_out_boards()
    chance = sum(len(game.optimal_moves(board)) / board.count(".") for board in boards) / len(boards)
    axes.axhline(chance, color=MUTED, lw=1, ls=(0, (4, 3)))
    axes.annotate(
        "a random legal move", (last, chance), (0, -12), textcoords="offset points", ha="right",
        color=MUTED, fontsize=8.5,
    )  # fmt: skip


def _games(axes: Axes, results: DemoResults) -> None:
    last = results.strengths[-1].number
    for row, (label, outcomes) in enumerate(((f"version {last}", results.after), ("base", results.before))):
        start = 0.0
        for share, (name, colour) in zip(astuple(outcomes), OUTCOMES, strict=True):
            axes.barh(row, share, left=start, height=0.5, color=colour, label=name if row == 0 else None)
            if share >= _NARROW:
                axes.text(start + share / 2, row, f"{share:.0%}", ha="center", va="center", color="white")
            start += share
        axes.text(-0.02, row, label, ha="right", va="center", color=INK)
    axes.set(xlim=(0, 1), ylim=(-0.6, 1.6), yticks=[])
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=4, frameon=False, labelcolor=INK)
    _title(axes, "Games against a random opponent", f"{GAMES} games each; the policy begins every second one")


def _title(axes: Axes, title: str, subtitle: str) -> None:
    axes.set_title(title, loc="left", color=INK, fontsize=12.5, fontweight="bold", pad=24)
    axes.text(0, 1.03, subtitle, transform=axes.transAxes, color=MUTED, fontsize=9)
    axes.tick_params(colors=MUTED, length=0)
    axes.xaxis.label.set_color(MUTED)
    axes.spines[:].set_visible(False)
