"""The adapters of a replica: one for each distinct backend, kept warm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from tunestream.config.run.trainers import TrainerSection
from tunestream.trainers import TrainerAdapter, TrainingFailed, find_backend

__all__ = ["Adapters", "asking"]

_MOST_IDLE: Final = 16
log = structlog.get_logger(__name__)


@contextmanager
def asking() -> Iterator[None]:
    """Make a reason why the attempt ends of whatever an adapter raises.

    Raises:
        TrainingFailed: instead of the adapter's own errors.
    """
    try:
        yield
    except TrainingFailed:
        raise
    except ValueError as error:
        raise TrainingFailed("refused", f"the backend refuses the job: {error}") from error
    except Exception as error:
        log.exception("backend.fault")
        raise TrainingFailed("backend_error", f"{type(error).__name__}: {error}") from error


@dataclass(slots=True)
class _Kept:
    adapter: TrainerAdapter
    users: int = 0


class Adapters:
    """Makes adapters when they are needed, and closes them at the end.

    Args:
        artifacts: the artifact store's URL.
    """

    def __init__(self, artifacts: str) -> None:
        self._artifacts = artifacts
        self._kept: dict[Hashable, _Kept] = {}  # the latest used last

    @asynccontextmanager
    async def use(self, config: TrainerSection) -> AsyncIterator[TrainerAdapter]:
        """Lend the adapter for a run's trainer section.

        Raises:
            TrainingFailed: when it cannot be made, e.g. what it needs is not installed.
        """
        key, kept = self._take(config)
        kept.users += 1
        try:
            yield kept.adapter
        finally:
            kept.users -= 1
            if self._kept.get(key) is kept:
                self._kept[key] = self._kept.pop(key)
            await self._close_idle()

    def _take(self, config: TrainerSection) -> tuple[Hashable, _Kept]:
        backend = find_backend(config.type)
        with asking():
            key = (config.type, backend.shares(config))
            if key not in self._kept:
                self._kept[key] = _Kept(backend.adapter(config, self._artifacts))
        return key, self._kept[key]

    async def _close_idle(self) -> None:
        idle = [kept.adapter for kept in self._kept.values() if not kept.users]
        for adapter in idle[:-_MOST_IDLE]:
            await self.discard(adapter)

    async def discard(self, adapter: TrainerAdapter) -> None:
        """Close an adapter at once, with all that it runs; the next user gets another."""
        self._kept = {key: kept for key, kept in self._kept.items() if kept.adapter is not adapter}
        await _close(adapter)

    async def close(self) -> None:
        """Close all adapters."""
        kept, self._kept = self._kept, {}
        await asyncio.gather(*(_close(one.adapter) for one in kept.values()))


async def _close(adapter: TrainerAdapter) -> None:
    try:
        with asking():
            await adapter.close()
    except TrainingFailed as failure:
        log.warning("backend.not_closed", reason=failure.message)
