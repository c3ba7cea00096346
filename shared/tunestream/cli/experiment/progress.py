"""How ``tunestream experiment run`` shows what it does."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from tunestream.experiments.engine import StageUpdate

__all__ = ["watching"]


@contextmanager
def watching(log: Path) -> Iterator[Callable[[StageUpdate], None]]:
    """Show stages on the terminal; what they and their processes print goes to ``log``.

    Yields:
        What takes the updates, from any thread.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with _standard_error_to(log) as terminal:
        console = Console(file=terminal, highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            yield _Bars(progress)


class _Bars:
    """A bar for each stage that runs, a line for each that has ended."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[tuple[str, str], TaskID] = {}

    def __call__(self, update: StageUpdate) -> None:
        name = (update.arm, str(update.stage))
        if update.state.status == "running":
            self._move(name, update)
        elif update.state.status in {"complete", "failed"}:
            if name in self._tasks:
                self._progress.remove_task(self._tasks.pop(name))
            self._progress.console.print(_line(update), soft_wrap=True)
            for text in update.notes:
                self._progress.console.print(f"  [yellow]{escape(text)}[/]", soft_wrap=True)

    def _move(self, name: tuple[str, str], update: StageUpdate) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(" ".join(name), total=None)
        self._progress.update(self._tasks[name], completed=update.done, total=update.total or None)


def _line(update: StageUpdate) -> str:
    named = f"{update.arm} {update.stage:<9}"
    if update.state.status == "failed":
        return f"{named} [red]failed[/]: {escape(update.state.error or '')}"
    return f"{named} [dim]complete before[/]" if update.state.reused else f"{named} [green]complete[/]"


@contextmanager
def _standard_error_to(log: Path) -> Iterator[TextIO]:
    """Point the standard error of this process and its children to a file; yields what it was."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with log.open("ab") as file:
            os.dup2(file.fileno(), 2)
        with os.fdopen(os.dup(saved), "w") as terminal:
            yield terminal
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)
