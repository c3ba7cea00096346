"""What a service answers when it is asked whether it works."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tunestream.streams.broker.deadlines import words

__all__ = ["Health", "why_ended"]


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a service works, and if not, why not."""

    ok: bool
    reasons: tuple[str, ...] = ()


def why_ended(loop: asyncio.Task[None]) -> str:
    """Return that a loop has ended, and with which error."""
    error = None if loop.cancelled() else loop.exception()
    return f"loop {loop.get_name()} ended" + (f": {words(error)}" if isinstance(error, Exception) else "")
