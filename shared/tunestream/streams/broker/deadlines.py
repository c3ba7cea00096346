"""Deadlines whose errors have words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

__all__ = ["STEP_DEADLINE", "deadline", "words"]

STEP_DEADLINE: Final = 40.0
"""Longer than any healthy step against a broker takes, shorter than the transaction time-out, seconds."""


@asynccontextmanager
async def deadline(seconds: float, doing: str) -> AsyncIterator[None]:
    """Bound what is done inside.

    Args:
        seconds: at most.
        doing: what it is, for the error, e.g. ``reading the committed offsets``.

    Raises:
        TimeoutError: naming what took too long.
    """
    try:
        async with asyncio.timeout(seconds) as bound:
            yield
    except TimeoutError as error:
        if bound.expired():
            raise TimeoutError(f"{doing} took longer than {seconds:g} s; does the broker answer?") from error
        raise


def words(error: BaseException) -> str:
    """Return an error's class and message; of one without a message, what caused it."""
    name = type(error).__name__
    if text := str(error):
        return f"{name}: {text}"
    cause = error.__cause__ or error.__context__
    if isinstance(cause, asyncio.CancelledError):  # how asyncio ends a wait
        return f"{name}: no answer in time"
    return f"{name}, caused by {words(cause)}" if cause is not None else f"{name} (no message)"
