"""Sending what is added without waiting, in order, while more is added."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tunestream.sdk.turn import TurnEvent
from tunestream.streams.publish import EncodedRecord

__all__ = ["outflow"]


@asynccontextmanager
async def outflow(
    encode: Callable[[TurnEvent], EncodedRecord], send: Callable[[EncodedRecord], Awaitable[None]]
) -> AsyncIterator[Callable[[TurnEvent], None]]:
    """Give a function that has an event sent; leaving the block waits until all were.

    An event that cannot be encoded is refused by that function, which also raises what ended the sending.
    """
    waiting: asyncio.Queue[EncodedRecord | None] = asyncio.Queue()

    async def drain() -> None:
        while (record := await waiting.get()) is not None:
            await send(record)

    def add(event: TurnEvent) -> None:
        if sending.done():
            sending.result()
        waiting.put_nowait(encode(event))

    sending = asyncio.create_task(drain(), name="turn outflow")
    try:
        yield add
    except asyncio.CancelledError:
        sending.cancel()
        raise
    finally:
        waiting.put_nowait(None)
        await sending
