"""What a worker prints and reports, kept as the log of the attempt."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Final

import structlog

from tunestream.artifacts import ArtifactStore, AttemptLog, LogStore
from tunestream.trainers.port import JobSpec
from tunestream.trainers.redaction import Redactor
from tunestream.trainers.worker.protocol import Canceled, Failed, Finished, Progress, Terminal

__all__ = ["Recorder"]

log = structlog.get_logger(__name__)
_FLUSH_SECONDS: Final = 2.0
_PROGRESS_SECONDS: Final = 10.0  # between two lines about the same phase


class Recorder:
    """Keeps the log of one attempt. A store that is away costs lines, never the training.

    Args:
        spec: names the attempt and the store.
        redact: takes secrets out.
    """

    def __init__(self, spec: JobSpec, redact: Redactor) -> None:
        self._log = AttemptLog(LogStore(ArtifactStore(spec.artifacts), spec.job_id), spec.attempt)
        self._redact = redact
        self._noted: tuple[str, int] | None = None
        self._noted_at = 0.0
        self._complained = False
        self._flushing = asyncio.Lock()
        self._writing = asyncio.create_task(self._write(), name=f"log-{spec.job_id}")

    def keep(self, line: str) -> None:
        """Keep a line of the worker's output, without secrets already."""
        self._log.append(datetime.now(UTC), "output", line)

    def note(self, text: str) -> None:
        """Keep a line about the attempt."""
        self._log.append(datetime.now(UTC), "report", self._redact(text))

    def report(self, report: Progress | Terminal) -> None:
        """Keep a report: every phase, checkpoint and end, and now and then how far the phase is."""
        if not isinstance(report, Progress):
            self.note(_ending(report))
            return
        now, news = time.monotonic(), (report.phase, report.checkpoint)
        if news != self._noted or now - self._noted_at >= _PROGRESS_SECONDS:
            self._noted, self._noted_at = news, now
            self.note(_progress(report))

    async def close(self) -> None:
        """Store what is left."""
        self._writing.cancel()
        await asyncio.wait([self._writing])
        await self._flush()

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            await asyncio.shield(self._flush())  # what was begun is finished, whoever closes meanwhile

    async def _flush(self) -> None:
        try:
            async with self._flushing:
                await asyncio.to_thread(self._log.flush, datetime.now(UTC))
        except Exception as error:  # noqa: BLE001 - whatever the file system raises
            if not self._complained:
                log.warning("job.log_unwritten", reason=f"{type(error).__name__}: {error}")
            self._complained = True


def _progress(report: Progress) -> str:
    parts = [f"{report.phase}, step {report.step} of {report.total}"]
    if "loss" in report.metrics:
        parts.append(f"loss {report.metrics['loss']:.4g}")
    if report.checkpoint:
        parts.append(f"checkpoint of step {report.checkpoint} stored")
    return ", ".join(parts)


def _ending(report: Terminal) -> str:
    if isinstance(report, Finished):
        return f"finished: {report.result.message}"
    if isinstance(report, Failed):
        return f"failed as {report.code}: {report.failure.message}"
    assert isinstance(report, Canceled)
    return "stopped as asked"
