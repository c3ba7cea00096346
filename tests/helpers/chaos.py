"""Replicas of services, and everything that may happen to a process."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.helpers.services import ServiceProcess
from tunestream.config.settings import KafkaSettings

SESSION_SECONDS: Final = 6
# How long a stopped process stays so: its session has ended and its partitions have moved.
PAUSE_SECONDS: Final = SESSION_SECONDS + 3
_STARTS: Final = 10


class Cluster:
    """Replicas of some services on one broker, supervised by the test."""

    def __init__(
        self, kafka: KafkaSettings, folder: Path, services: Sequence[str], replicas: int, **env: str
    ) -> None:
        settings = {"TUNESTREAM_SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS)} | env
        self.replicas = {
            (name, number): ServiceProcess(name, kafka, folder, str(number), settings)
            for name in services
            for number in range(replicas)
        }
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for replica in self.replicas.values():
            replica.start()
            self._stack.push_async_callback(asyncio.to_thread, replica.stop)
        await asyncio.gather(*(replica.ready() for replica in self.replicas.values()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    def log(self) -> str:
        """Return what all replicas logged."""
        return "".join(path.read_text() for path in {replica.log for replica in self.replicas.values()})


async def crash(replica: ServiceProcess) -> None:
    """Kill -9, and start again at once."""
    await asyncio.to_thread(replica.kill)
    await _start(replica)


async def restart(replica: ServiceProcess) -> None:
    """End in good order, and start again."""
    await asyncio.to_thread(replica.stop)
    await _start(replica)


async def freeze(replica: ServiceProcess) -> None:
    """Stop the process until others have its partitions, and let it go on as a zombie."""
    replica.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(PAUSE_SECONDS)
    finally:
        replica.signal(signal.SIGCONT)
    await replica.ready()


async def hiccup(replica: ServiceProcess) -> None:
    """Stop the process for less than a session."""
    replica.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(1.0)
    finally:
        replica.signal(signal.SIGCONT)
    await replica.ready()


Disturbance = Callable[[ServiceProcess], Awaitable[None]]
DISTURBANCES: Final[Sequence[Disturbance]] = (crash, restart, freeze, hiccup)


async def _start(replica: ServiceProcess) -> None:
    """Start as a supervisor does: once more when it ended at once, as it does while the broker is away."""
    for attempt in range(1, _STARTS + 1):
        replica.start()
        try:
            await replica.ready()
            break
        except AssertionError:
            if attempt == _STARTS:
                raise
