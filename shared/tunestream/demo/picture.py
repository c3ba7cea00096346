"""The demo's results as a picture."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING, Final

from tunestream.demo import game
from tunestream.demo.evaluation import GAMES
from tunestream.demo.results import DemoResults
from tunestream.reporting.plots import ACCENT, GRID, INK, MUTED, new_figure, remove_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw"]

OUTCOMES: Final = (("win", "#16a34a"), ("draw", "#a3b1c2"), ("loss", "#ea580c"), ("illegal", "#7f1d1d"))
_NARROW: Final = 0.06  # a share below this holds no label


def draw(results: DemoResults) -> Figure:
    """Draw optimal moves by version beside games against a random opponent before and after."""
    figure = new_figure(11, 4.4, padding=0.12)
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    _strengths(left, results)
    _games(right, results)
    return figure


def _strengths(axes: Axes, results: DemoResults) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter  # noqa: PLC0415 - an extra

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
    boards = game.test_boards()
    chance = sum(len(game.optimal_moves(board)) / board.count(".") for board in boards) / len(boards)
    axes.axhline(chance, color=MUTED, lw=1, ls=(0, (4, 3)))
    axes.annotate(
        "a random legal move", (last, chance), (0, -12), textcoords="offset points", ha="right",
        color=MUTED, fontsize=8.5,
    )  # fmt: skip


def _games(axes: Axes, results: DemoResults) -> None:
    from matplotlib.ticker import PercentFormatter  # noqa: PLC0415 - an extra

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
    remove_frame(axes)
