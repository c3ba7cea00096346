"""Requests that arrive together run together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Generic, ParamSpec, TypeVar

__all__ = ["MicroBatcher"]

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")
A = TypeVar("A")


class MicroBatcher(Generic[T, R]):
    """Runs a batch function on one thread; everything that runs on it is therefore serial.

    Args:
        handler: returns for each item its result, or the exception that its caller gets.
        window_seconds: how long the first item of a batch waits for company.
        max_batch: items handed over at once.
    """

    def __init__(
        self,
        handler: Callable[[Sequence[T]], Sequence[R | Exception]],
        *,
        window_seconds: float = 0.002,
        max_batch: int = 256,
    ) -> None:
        self._handler = handler
        self._window = window_seconds
        self._max_batch = max_batch
        self._queue: asyncio.Queue[tuple[T, asyncio.Future[R]]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while inside; what still waits at the end is cancelled."""
        task = asyncio.create_task(self._serve())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
            while not self._queue.empty():
                self._queue.get_nowait()[1].cancel()
            self._thread.shutdown()

    async def submit(self, item: T) -> R:
        """Return the item's result.

        Raises:
            Exception: what the handler gave or raised for it.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((item, future))
        return await future

    async def call(self, function: Callable[P, A], *args: P.args, **kwargs: P.kwargs) -> A:
        """Run a function between batches, on the same thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: function(*args, **kwargs))

    async def _serve(self) -> None:
        while True:
            batch = [await self._queue.get()]
            try:
                await asyncio.sleep(self._window)
                while len(batch) < self._max_batch and not self._queue.empty():
                    batch.append(self._queue.get_nowait())
                self._settle(batch, await self._results([item for item, _ in batch]))
            finally:
                for _, future in batch:
                    future.cancel()  # without effect on those that have their result

    async def _results(self, items: Sequence[T]) -> Sequence[R | Exception]:
        try:
            return await self.call(self._handler, items)
        except Exception as error:  # noqa: BLE001 - a fault of the handler belongs to every caller
            return [error] * len(items)

    @staticmethod
    def _settle(batch: Sequence[tuple[T, asyncio.Future[R]]], results: Sequence[R | Exception]) -> None:
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():  # the caller has gone
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
