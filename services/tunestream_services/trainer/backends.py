"""The backends of a replica: one for each distinct service or machine, kept warm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from tunestream.config.run.trainers import TrainerSection
from tunestream.trainers import Backend, TrainingFailed, find_backend, open_backend
from tunestream.trainers.attempt import as_training_failure

__all__ = ["Backends"]

_MOST_IDLE: Final = 16
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Kept:
    backend: Backend
    users: int = 0


class Backends:
    """Opens backends when they are needed, and closes them at the end.

    Args:
        artifacts: the artifact store's URL.
    """

    def __init__(self, artifacts: str) -> None:
        self._artifacts = artifacts
        self._kept: dict[Hashable, _Kept] = {}  # the latest used last

    @asynccontextmanager
    async def use(self, config: TrainerSection) -> AsyncIterator[Backend]:
        """Lend the backend for a run's trainer section.

        Raises:
            TrainingFailed: when it cannot be opened, e.g. what it needs is not installed.
        """
        key, kept = self._take(config)
        kept.users += 1
        try:
            yield kept.backend
        finally:
            kept.users -= 1
            if self._kept.get(key) is kept:
                self._kept[key] = self._kept.pop(key)
            await self._close_idle()

    def _take(self, config: TrainerSection) -> tuple[Hashable, _Kept]:
        description = find_backend(config.type)
        with as_training_failure():
            key = (config.type, description.shares(config))
        if key not in self._kept:
            self._kept[key] = _Kept(open_backend(description, config, self._artifacts))
        return key, self._kept[key]

    async def _close_idle(self) -> None:
        idle = [kept.backend for kept in self._kept.values() if not kept.users]
        for backend in idle[:-_MOST_IDLE]:
            await self.discard(backend)

    async def discard(self, backend: Backend) -> None:
        """Close a backend at once, with all that it runs; the next user gets another."""
        self._kept = {key: kept for key, kept in self._kept.items() if kept.backend is not backend}
        await _close(backend)

    async def close(self) -> None:
        """Close all backends."""
        kept, self._kept = self._kept, {}
        await asyncio.gather(*(_close(one.backend) for one in kept.values()))


async def _close(backend: Backend) -> None:
    try:
        with as_training_failure():
            await backend.close()
    except TrainingFailed as failure:
        log.warning("backend.not_closed", reason=failure.message)
