"""Reports of a job on their way from its backend to the ledger."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from tunestream.trainers import Checkpoint, Progress
from tunestream.trainers.standing import Standing

__all__ = ["Mailbox"]

_PACE_SECONDS: Final = 0.1  # at least, between two statuses of a job


class Mailbox:
    """Holds where a job is until it is published. The latest progress counts; training never waits."""

    def __init__(self) -> None:
        self._standing = Standing()
        self._news = asyncio.Event()
        self._due = 0.0

    def put(self, report: Progress | Checkpoint) -> None:
        """Take a report of the backend."""
        self._standing.take(report)
        if isinstance(report, Progress):
            self._news.set()

    async def wait(self) -> None:
        """Return when there is something to publish, and it is due."""
        await self._news.wait()
        await asyncio.sleep(self._due - time.monotonic())

    def take(self) -> Standing | None:
        """Return where the job is; None when nothing is new, or not due."""
        if not self._news.is_set() or time.monotonic() < self._due:
            return None
        self._news.clear()
        self._due = time.monotonic() + _PACE_SECONDS
        return self._standing
