"""The demo while it runs, on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tunestream.demo.agents import Arena
from tunestream.demo.evaluation import Strength
from tunestream.demo.observer import Observations
from tunestream.demo.recipes import Recipe
from tunestream.events.training import TrainingJobStatus, TrainingStatusEnum

__all__ = ["Screen", "render_screen"]

_BAR: str = "▁▂▃▄▅▆▇█"
_SHOWN_JOBS: int = 4
_COLOURS: dict[TrainingStatusEnum, str] = {
    TrainingStatusEnum.PENDING: "dim",
    TrainingStatusEnum.RUNNING: "cyan",
    TrainingStatusEnum.COMPLETED: "green",
    TrainingStatusEnum.FAILED: "red",
    TrainingStatusEnum.CANCELED: "yellow",
}


@dataclass(slots=True)
class Screen:
    """Everything that the view shows; ``activity`` is what is being waited for."""

    rounds: int
    recipe: Recipe
    seen: Observations
    arena: Arena
    strengths: list[Strength] = field(default_factory=list)
    activity: str = ""


def render_screen(screen: Screen, *, now: float, elapsed: float) -> RenderableType:
    """Draw the screen; ``now`` is monotonic, ``elapsed`` counts from the first game, both in seconds."""
    head = Table.grid(expand=True)
    head.add_column(ratio=1)
    head.add_column(justify="right")
    head.add_row(Text(screen.activity, style="bold"), f"{screen.recipe.objective} {elapsed:.0f} s")
    body = Table.grid(expand=True, padding=(0, 1))
    body.add_column(ratio=1)
    body.add_column(ratio=1)
    body.add_row(_flows(screen, now), Group(_agents(screen), _jobs(screen)))
    return Group(head, body, _strengths(screen))


def _panel(content: RenderableType, title: str) -> Panel:
    return Panel(content, title=title, title_align="left", border_style="dim")


def _flows(screen: Screen, now: float) -> Panel:
    table = Table(box=None, expand=True)
    table.add_column("topic")
    table.add_column("records", justify="right")
    table.add_column("per second", justify="right")
    for name, flow in screen.seen.flows.items():
        table.add_row(name, f"{flow.records:,}", f"{flow.rate(now):,.0f}")
    return _panel(table, "flow")


def _agents(screen: Screen) -> Panel:
    arena = screen.arena
    waiting = arena.throttle.published - arena.throttle.trained
    table = Table.grid(expand=True)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("served", escape(arena.policy.model))
    table.add_row("games", f"{arena.games:,}")
    table.add_row("open turns", f"{max(0, arena.turns - screen.seen.groups):,}")
    table.add_row(
        f"{screen.recipe.unit} waiting for training", f"{waiting:,} of {arena.throttle.most_waiting:,}"
    )
    return _panel(table, "agents")


def _jobs(screen: Screen) -> Panel:
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(width=9)
    table.add_column(ratio=1)
    table.add_column(width=10)
    shown = list(enumerate(screen.seen.jobs.values(), start=1))[-_SHOWN_JOBS:]
    for number, status in shown:
        colour = _COLOURS[status.status]
        table.add_row(f"job {number}", _bar(status), f"[{colour}]{status.status.value}[/]")
    for _ in range(_SHOWN_JOBS - len(shown)):
        table.add_row("")
    return _panel(table, f"jobs ({len(screen.seen.jobs)} of {screen.rounds})")


def _bar(status: TrainingJobStatus) -> RenderableType:
    if status.status in {TrainingStatusEnum.FAILED, TrainingStatusEnum.CANCELED}:
        return Text(status.message or "", overflow="ellipsis", no_wrap=True)
    return ProgressBar(completed=status.progress or 0.0)


def _strengths(screen: Screen) -> Panel:
    table = Table(box=None, expand=True)
    table.add_column("version", width=8)
    table.add_column("optimal moves on test boards", ratio=1)
    table.add_column("", justify="right", width=7)
    table.add_column("95 % interval", justify="right", width=16)
    for strength in screen.strengths:
        rate = strength.interval
        bar = ProgressBar(completed=100 * rate.mean, complete_style="blue", finished_style="blue")
        name = "base" if strength.version is None else str(strength.number)
        table.add_row(name, bar, f"{rate.mean:.1%}", f"{rate.low:.1%} to {rate.high:.1%}")
    return _panel(table, f"strength {_sparkline(screen.strengths)}")


def _sparkline(strengths: Sequence[Strength]) -> str:
    return "".join(_BAR[min(7, int(8 * strength.interval.mean))] for strength in strengths)
