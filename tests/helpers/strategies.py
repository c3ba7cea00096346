"""Curriculum strategies of one's own, and how a distribution brings one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tunestream.config.run.curriculum import CurriculumSection
from tunestream.config.run.plugins import STRATEGIES
from tunestream.domain.gate.selection import Epoch, Selection, State

__all__ = ["BROKEN", "ROTATING", "Rotating", "install_strategy"]


class RotatingConfig(CurriculumSection):
    """In a run's file: ``curriculum_learning: {_type: rotating, enabled: true, groups: 2}``."""

    type: Literal["rotating"] = Field(default="rotating", alias="_type")
    groups: int = Field(default=1, ge=1)
    """Groups of a window that train."""


class Rotating:
    """Takes a few groups of each window, and goes on where it stopped in the window before."""

    config = RotatingConfig

    def select(self, epoch: Epoch, state: State, config: RotatingConfig) -> Selection:
        """Take the next groups."""
        count, first = len(epoch.rewards), state.get("next", 0)
        chosen = [(first + at) % count for at in range(min(config.groups, count))]
        return Selection(chosen, {"next": first + len(chosen)})


class BrokenConfig(CurriculumSection):
    """What the strategy returns."""

    type: Literal["broken"] = Field(default="broken", alias="_type")
    chosen: list[int] = [0]
    characters: int = 0
    within: list[int] | None = None
    dropped: dict[str, int] = {}


class Broken:
    """Returns what its configuration says."""

    config = BrokenConfig

    def select(self, epoch: Epoch, state: State, config: BrokenConfig) -> Selection:
        """Return the configured groups, and a state of some length."""
        del epoch, state
        remembered: Any = object() if config.characters < 0 else "x" * config.characters
        return Selection(config.chosen, {"remembered": remembered}, config.dropped, config.within)


ROTATING = Rotating()
BROKEN = Broken()


def install_strategy(folder: Path, name: str, value: str, distribution: str = "strategies") -> str:
    """Write what an installation leaves in site-packages; return what goes on the path."""
    info = folder / f"{distribution}_{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{STRATEGIES}]\n{name} = {value}\n")
    return str(folder)
