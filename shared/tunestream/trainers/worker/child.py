"""The child's side of the line to its owner, for every kind of child."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tunestream.events.base import Wire
from tunestream.trainers.worker.lines import EXIT_ORPHANED, HEARTBEAT, READY, end_of_output

__all__ = ["OwnerLine"]

_TICK: Final = 1.0  # seconds; a command's report is promised at least every 2 s


class OwnerLine:
    """Takes commands, sends reports, and ends the process when its owner is gone.

    Two threads do it: one reads commands, one ticks once a second. The main one works.

    Args:
        scratch: the process's temporary folder, removed when the owner is gone.
        heartbeat_timeout: seconds of silence after which the owner counts as gone.
        receive: takes every command, as it came; called by the reading thread.
    """

    def __init__(self, scratch: Path, heartbeat_timeout: float, receive: Callable[[bytes], None]) -> None:
        self._scratch = scratch
        self._timeout = heartbeat_timeout
        self._receive = receive
        self._heard = time.monotonic()
        self._repeated: bytes | None = None
        self._lock = threading.Lock()
        self._commands = _taken_away(sys.stdin.fileno(), os.open(os.devnull, os.O_RDONLY))
        # Libraries print: what they write to standard output goes to standard error from here on.
        self._reports = _taken_away(sys.stdout.fileno(), sys.stderr.fileno())
        sys.stdout = sys.stderr  # whose lines are not kept back
        threading.Thread(target=self._read, name="commands", daemon=True).start()
        threading.Thread(target=self._tick, name="ticks", daemon=True).start()

    def ready(self) -> None:
        """Report that commands are taken now."""
        self._write(READY)

    def send(self, message: Wire) -> None:
        """Send a report."""
        self._write(message.to_json() + b"\n")

    def repeat(self, line: bytes | None) -> None:
        """Send a line once a second from now on, as a sign of life; None ends that."""
        with self._lock:
            self._repeated = line

    def end_output(self, mark: str) -> None:
        """Mark the end of what a command printed."""
        sys.stderr.flush()
        os.write(sys.stderr.fileno(), end_of_output(mark))

    def _write(self, line: bytes) -> None:
        with self._lock:
            _write_all(self._reports, line)

    def _read(self) -> None:
        with os.fdopen(self._commands, "rb") as commands:
            for line in commands:
                self._heard = time.monotonic()
                if line != HEARTBEAT:
                    self._receive(line)
        self._leave()

    def _tick(self) -> None:
        silent = 0
        # Twice in a row: after a pause of the whole process the reader must catch up first.
        while silent < 2:
            time.sleep(_TICK)
            silent = silent + 1 if time.monotonic() - self._heard > self._timeout else 0
            with self._lock:
                if self._repeated is not None:
                    _write_all(self._reports, self._repeated)
        # Nobody may read any more, and another thread may be stuck in writing for that reason.
        os.set_blocking(sys.stderr.fileno(), False)
        with contextlib.suppress(OSError):
            message = f"process {os.getpid()} ends: its owner was silent for {self._timeout:g} s\n"
            os.write(sys.stderr.fileno(), message.encode())
        self._leave()

    def _leave(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)
        os._exit(EXIT_ORPHANED)


def _taken_away(descriptor: int, replacement: int) -> int:
    """Put another file in the place of a descriptor, and return a private one of what stood there."""
    private = os.dup(descriptor)
    os.dup2(replacement, descriptor)
    return private


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
