"""The log of an attempt, written to the artifact store while the attempt goes on."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final, Literal

import structlog

from tunestream.artifacts import ArtifactStore, AttemptLog, LogStore
from tunestream.trainers.port import JobSpec

__all__ = ["AttemptLogWriter"]

log = structlog.get_logger(__name__)
_FLUSH_SECONDS: Final = 2.0


class AttemptLogWriter:
    """Writes lines every 2 s from the first one on. A store that is away costs lines, never the training.

    Args:
        spec: names the attempt and the store.
    """

    def __init__(self, spec: JobSpec) -> None:
        self._log = AttemptLog(LogStore(ArtifactStore(spec.artifacts), spec.job_id), spec.attempt)
        self._name = f"log-{spec.job_id}"
        self._complained = False
        self._flushing = asyncio.Lock()
        self._writing: asyncio.Task[None] | None = None

    def append(self, source: Literal["output", "report"], line: str) -> None:
        """Remember a line without secrets; it is what the training printed, or a report about it."""
        self._log.append(datetime.now(UTC), source, line)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name=self._name)

    async def close(self) -> None:
        """Write what is left."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
            await self._flush()

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            await asyncio.shield(self._flush())  # closing the log does not interrupt a flush

    async def _flush(self) -> None:
        try:
            async with self._flushing:
                await asyncio.to_thread(self._log.flush, datetime.now(UTC))
        except Exception as error:  # noqa: BLE001 - a file system raises errors of many kinds
            if not self._complained:
                log.warning("job.log_unwritten", reason=f"{type(error).__name__}: {error}")
            self._complained = True
