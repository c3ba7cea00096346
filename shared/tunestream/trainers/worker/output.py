"""What a child process prints, line by line."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from tunestream.telemetry import pass_on
from tunestream.trainers.redaction import Redactor
from tunestream.trainers.worker.lines import end_of_output

__all__ = ["OutputReader"]

_CHUNK_BYTES: Final = 1 << 16
_LINE_BYTES: Final = 1 << 16  # a longer one is cut in pieces
_DRAIN_SECONDS: Final = 5.0


class OutputReader:
    """Passes on what a process prints, without secrets: to this process's log and to a keeper.

    Args:
        stream: the process's standard error.
        redact: takes secrets out.
        keep: takes every line that is not empty, without its end.
    """

    def __init__(self, stream: asyncio.StreamReader, redact: Redactor, keep: Callable[[str], None]) -> None:
        self._stream = stream
        self._redact = redact
        self._keep = keep
        self._ended: asyncio.Queue[bytes] = asyncio.Queue()
        self._task = asyncio.create_task(self._read(), name="worker-output")

    async def until_end_of(self, mark: str) -> None:
        """Wait until all that a finished command printed was read, a few seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while await self._ended.get() != end_of_output(mark):
                    pass

    async def close(self) -> None:
        """Read what a process that has ended left behind."""
        await asyncio.wait([self._task], timeout=_DRAIN_SECONDS)
        self._task.cancel()

    async def _read(self) -> None:
        rest = b""
        while chunk := await self._stream.read(_CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._pass_on(line + b"\n")
            if len(rest) > _LINE_BYTES:
                self._pass_on(rest + b"\n")
                rest = b""
        if rest:
            self._pass_on(rest + b"\n")

    def _pass_on(self, line: bytes) -> None:
        if line.startswith(b"\x1e"):
            self._ended.put_nowait(line)
            return
        text = self._redact(line.decode(errors="replace").rstrip())
        pass_on(text)
        if text:
            self._keep(text)
