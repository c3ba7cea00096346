"""What a worker prints and reports, kept as the log of the attempt."""

from __future__ import annotations

import time
from typing import Final

from tunestream.trainers.attempt_log import AttemptLogWriter
from tunestream.trainers.port import JobSpec
from tunestream.trainers.redaction import Redactor
from tunestream.trainers.worker.protocol import Canceled, Failed, Finished, Progress, Terminal

__all__ = ["Recorder"]

_PROGRESS_SECONDS: Final = 10.0  # between two lines about the same phase


class Recorder:
    """Keeps the log of one attempt.

    Args:
        spec: names the attempt and the store.
        redact: takes secrets out.
    """

    def __init__(self, spec: JobSpec, redact: Redactor) -> None:
        self._log = AttemptLogWriter(spec)
        self._redact = redact
        self._noted: tuple[str, int] | None = None
        self._noted_at = 0.0

    def keep(self, line: str) -> None:
        """Keep a line of the worker's output, without secrets already."""
        self._log.append("output", line)

    def note(self, text: str) -> None:
        """Keep a line about the attempt."""
        self._log.append("report", self._redact(text))

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
        await self._log.close()


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
