"""Where a job is, by what its backend reported."""

from __future__ import annotations

from typing import Any

from tunestream.trainers.port import Checkpoint, Progress

__all__ = ["Standing"]


class Standing:
    """The latest progress of a job and its latest checkpoint: what its next status shows.

    Attributes:
        progress: the latest.
        checkpoint: its step; 0 before the first.
    """

    def __init__(self) -> None:
        self.progress = Progress()
        self.checkpoint = 0

    def take(self, report: Progress | Checkpoint) -> None:
        """Take over a report."""
        if isinstance(report, Progress):
            self.progress = report
        else:
            self.checkpoint = report.step

    def metadata(self) -> dict[str, Any]:
        """Return what a status shows beside per cent and message.

        These are the metrics; of a backend that reports phases also ``phase``, ``step``, ``total`` and
        ``checkpoint``.
        """
        progress = self.progress
        if progress.phase is None:
            return dict(progress.metrics)
        where = {"phase": progress.phase, "step": progress.step, "total": progress.total}
        return {**where, **progress.metrics, "checkpoint": self.checkpoint}
