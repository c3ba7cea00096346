"""The datasets of closed windows, written line by line."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Self

from tunestream.artifacts import ArtifactStore, DatasetWriter
from tunestream.domain.gate.closed_window import ClosedWindow
from tunestream.domain.gate.dataset_rows import Line
from tunestream.domain.gate.window import Held
from tunestream.events.training import DatasetFile
from tunestream.events.trajectories import TrajectoryGroupRef
from tunestream_services.curriculum_gate.bodies import Bodies

__all__ = ["WindowDataset"]


class WindowDataset:
    """The rows of a window's selection, those to train on and those that are held out.

    Attributes:
        policy_versions: that gave the rows.
        unversioned: rows of which no version is known.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._train = DatasetWriter(store)
        self._validation = DatasetWriter(store)
        self.policy_versions: set[str] = set()
        self.unversioned = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._train.close()
        self._validation.close()

    @property
    def empty(self) -> bool:
        """Whether there is no row at all."""
        return not self._train.rows + self._validation.rows

    async def fill(self, window: ClosedWindow, bodies: Bodies, deadline: float) -> None:
        """Write the rows of a window.

        Args:
            window: whose groups are selected.
            bodies: of groups that references stand for.
            deadline: for writing those of some groups, seconds.

        Raises:
            ArtifactError: when the store does not give a body.
            TimeoutError: when it, or this machine's disk, takes too long.
        """
        refs = {
            held.group.group_id: TrajectoryGroupRef.of_service(held.value)
            for held in window.selected
            if held.stored
        }

        def size(held: Held) -> int:
            return refs[held.group.group_id].size if held.stored else 0

        for groups in bodies.batches(window.selected, size):
            wanted = [refs[held.group.group_id] for held in groups if held.stored]
            found = await bodies.all(wanted)
            async with asyncio.timeout(deadline):
                await asyncio.to_thread(self._add, window.lines(found, groups))

    def _add(self, lines: Iterable[Line]) -> None:
        for line in lines:
            (self._validation if line.held_out else self._train).add(line.text)
            if line.policy_version is None:
                self.unversioned += 1
            else:
                self.policy_versions.add(line.policy_version)

    def finish(self) -> tuple[DatasetFile, DatasetFile | None] | None:
        """Store the files, that of held-out rows if there are any; None when nothing trains."""
        if not self._train.rows:
            return None
        return self._train.finish(), self._validation.finish() if self._validation.rows else None
