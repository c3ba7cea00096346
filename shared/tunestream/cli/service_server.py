"""The process of one service: its HTTP side, its signals, and an end that comes in time."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final

import structlog
import uvicorn

from tunestream.cli.service_processes import REPLICA_TAKEN
from tunestream.streams.runtime.replicas import ReplicaTaken
from tunestream.streams.runtime.startup import BrokerAway

if TYPE_CHECKING:
    from tunestream.streams.runtime.lifecycle import ServiceApp

__all__ = ["BROKER_AWAY", "FAILED", "serve"]

FAILED: Final = 1
"""Exit code of a service that ended by itself."""
BROKER_AWAY: Final = 3
"""Exit code of a service whose broker did not answer in time."""

log = structlog.get_logger(__name__)
# Open requests get a second, and what hangs a few more than the service's own budget.
_REQUEST_SECONDS: Final = 1
_GRACE_SECONDS: Final = 3.0


async def serve(app: ServiceApp, host: str, port: int) -> int:
    """Run a service until a signal asks it to stop, or it ends by itself.

    Returns:
        The exit code: 0 after a signal.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_REQUEST_SECONDS,
    )
    server = _Server(config, app.stop_seconds)
    app.on_failure = server.stop
    await server.serve()
    return _exit_code(app.stage.failure)


def _exit_code(failure: BaseException | None) -> int:
    if failure is None:
        return 0
    if isinstance(failure, ReplicaTaken):
        return REPLICA_TAKEN
    return BROKER_AWAY if isinstance(failure, BrokerAway) else FAILED


class _Server(uvicorn.Server):
    """Takes signals as a wish to stop; uvicorn would end the process by the signal in the end."""

    def __init__(self, config: uvicorn.Config, stop_seconds: float) -> None:
        super().__init__(config)
        self._stop_seconds = stop_seconds

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._end_in_time()

    def stop(self) -> None:
        """Stop serving, since the service has ended by itself."""
        self.should_exit = True
        self._end_in_time(FAILED)

    def _end_in_time(self, code: int = 0) -> None:
        """End the process when a thread or a library holds up its end."""
        seconds = self._stop_seconds + _REQUEST_SECONDS + _GRACE_SECONDS
        timer = threading.Timer(seconds, _end_now, [seconds, code])
        timer.daemon = True
        timer.start()


_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def _end_now(seconds: float, code: int) -> None:
    log.warning("service.stop_overdue", after_seconds=seconds)
    sys.stderr.flush()
    os._exit(code)
