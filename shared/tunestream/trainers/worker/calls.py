"""Calls: messages that a child answers with one message each."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from tunestream.events.base import Wire
from tunestream.trainers.worker.process import ChildProcess

__all__ = ["ask"]

R = TypeVar("R")


async def ask(
    process: ChildProcess[R], call: Wire, *, within: float | None = None, silence: float | None = None
) -> R:
    """Send a call to a child, which is started for it if need be, and return the answer.

    A child that gave no answer is killed: what it would answer later is not taken for that of another call.

    Args:
        process: one call at a time.
        call: for its runner.
        within: seconds that the answer may take.
        silence: seconds without a sign of life.

    Raises:
        TrainingFailed: when what the child needs is not installed.
        TimeoutError: when there is no answer in time.
        WorkerDied: when the child ends or falls silent.
    """
    try:
        await process.start()
        async with asyncio.timeout(within):
            await process.send(call)
            return await process.receive(silence)
    except BaseException:
        await process.kill()
        raise
