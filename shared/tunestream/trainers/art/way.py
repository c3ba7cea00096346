"""What a job needs of ART's backends, its training service or this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import art

from tunestream.events.models import Artifact
from tunestream.trainers.art.episodes import TokenIds
from tunestream.trainers.art.traces import Trace

__all__ = ["Way"]


class Way(Protocol):
    """One of ART's backends, with what a job needs of it."""

    def token_ids(self) -> TokenIds:
        """Return what finds the ids of sampled tokens."""

    async def open(self) -> None:
        """Make the model known."""

    async def step(self) -> int:
        """Return the model's latest step."""

    async def settle(self, earlier: Sequence[Trace]) -> list[str]:
        """Wait until nothing trains the model any more, and start from ``JobSpec.parent``.

        Returns notes for the job's last status.
        """

    async def keep_only(self, step: int) -> None:
        """Delete the other checkpoints."""

    async def train(self, groups: list[art.TrajectoryGroup], options: dict[str, Any]) -> dict[str, float]:
        """Train one step, or go on with one that was sent before; returns ART's metrics."""

    async def is_complete(self, step: int) -> bool:
        """Return whether a step that an earlier attempt made can be used; what cannot is removed."""

    async def collect(self, step: int, folder: Path) -> tuple[Artifact, str]:
        """Return where a step's checkpoint is, and a note about it."""

    async def close(self) -> None:
        """Let go."""
