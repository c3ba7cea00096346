"""Ctrl-C and SIGTERM end long commands in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from tunestream.cli.output import note

__all__ = ["until_stopped"]

Result = TypeVar("Result")


async def until_stopped(work: Coroutine[Any, Any, Result]) -> Result | None:
    """Do ``work`` until it ends or a signal asks to stop; then it is cancelled and cleans up.

    Returns:
        What ``work`` returned, None when it was stopped.
    """
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if stop.is_set():
        note("stopping")
        working.cancel()
    try:
        return await working
    except asyncio.CancelledError:
        note("everything has stopped")
        return None
