"""A service from its first moment to its last: health answers all along, and the end comes in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from faststream.asgi import AsgiFastStream
from faststream.kafka import KafkaBroker

__all__ = ["HANDLER_SHARE", "PARTITION_SHARE", "ServiceApp", "Stage"]

log = structlog.get_logger(__name__)
# Shares of the time to stop: for the transactions in hand, then for giving partitions back.
HANDLER_SHARE: Final = 0.4
PARTITION_SHARE: Final = 0.3
# What was cancelled at the end of the budget needs a moment to go.
_LAST_SECONDS: Final = 1.0


class Stage:
    """Where a service is on its way.

    Attributes:
        waiting: why it is not at work yet, for people; None once it is.
        failure: what ended it, None while it goes on.
    """

    def __init__(self) -> None:
        self.waiting: str | None = "it is starting"
        self.failure: BaseException | None = None
        self._ended: asyncio.Future[None] | None = None

    def end(self, failure: BaseException) -> None:
        """End the service for good; a later failure counts no more."""
        if self.failure is None:
            self.failure = failure
            if self._ended is not None and not self._ended.done():
                self._ended.set_result(None)

    async def ended(self) -> None:
        """Wait until something ended the service, and raise it."""
        self._ended = asyncio.get_running_loop().create_future()
        if self.failure is None:
            await self._ended
        assert self.failure is not None
        raise self.failure


class ServiceApp(AsgiFastStream):
    """An application that is served at once and starts its service in the background.

    So that health answers while the service waits for the broker, and that a signal is obeyed meanwhile.

    Args:
        broker: of the service.
        stage: of the service; what enters the lifespan notes there what it waits for.
        stop_seconds: the budget of the end; what is not closed by then is left.
        **options: of FastStream's application.

    Attributes:
        on_failure: called when the service has ended by itself.
    """

    def __init__(self, broker: KafkaBroker, *, stage: Stage, stop_seconds: float, **options: Any) -> None:
        super().__init__(broker, **options)
        self.stage = stage
        self.stop_seconds = stop_seconds
        self.on_failure: Callable[[], None] = lambda: None

    @asynccontextmanager
    async def start_lifespan_context(
        self, run_extra_options: dict[str, Any] | None = None
    ) -> AsyncIterator[None]:
        """Run the service while the context is open; entering does not wait for its start."""
        del run_extra_options
        stop = asyncio.Event()
        running = asyncio.create_task(self._run(stop), name="service")
        running.add_done_callback(self._report)
        try:
            yield
        finally:
            await self._end(running, stop)

    async def _run(self, stop: asyncio.Event) -> None:
        async with super().start_lifespan_context():
            self.stage.waiting = None
            ended = asyncio.create_task(self.stage.ended())
            stopping = asyncio.create_task(stop.wait())
            done, pending = await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
        if ended in done:
            ended.result()

    def _report(self, running: asyncio.Task[None]) -> None:
        if running.cancelled():
            return
        failure = running.exception()
        if failure is not None:
            self.stage.end(failure)
            log.error("service.failed", error=type(failure).__name__, message=str(failure))
            self.on_failure()

    async def _end(self, running: asyncio.Task[None], stop: asyncio.Event) -> None:
        """Stop within the budget; a broker that is away cannot hold up the end."""
        running.remove_done_callback(self._report)
        stop.set()
        if self.stage.waiting is not None:
            running.cancel()
        _, late = await asyncio.wait({running}, timeout=self.stop_seconds)
        if late:
            log.warning("service.stop_cut_short", after_seconds=self.stop_seconds)
            running.cancel()
            _, late = await asyncio.wait({running}, timeout=_LAST_SECONDS)
        error = None if late or running.cancelled() else running.exception()
        if error not in (None, self.stage.failure):
            log.warning("service.stop_failed", error=type(error).__name__, message=str(error))
