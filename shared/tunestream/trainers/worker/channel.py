"""The worker's side of the line to its owner."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from pydantic import ValidationError

from tunestream.trainers.port import JobSpec
from tunestream.trainers.worker.protocol import (
    COMMANDS,
    CancelJob,
    Failed,
    Progress,
    Ready,
    Report,
    RunJob,
    Terminal,
    end_of_output,
)

__all__ = ["EXIT_ORPHANED", "Channel", "JobCanceled", "Line"]

EXIT_ORPHANED: Final = 3
_TICK: Final = 1.0  # seconds; a job's progress is promised at least every 2 s


class JobCanceled(Exception):
    """The owner does not want the job any more."""


class Line(Protocol):
    """What a job sees of the line to the owner, in each of the processes that train it.

    Attributes:
        scratch: the worker's temporary folder.
        leads: whether this process writes what the job makes.
    """

    scratch: Path
    leads: bool

    def update(self, **changes: Any) -> None:
        """Change what the job's progress says.

        Raises:
            JobCanceled: when the job should stop.
        """

    def share(self, text: str) -> str:
        """Return the leader's text in all processes."""

    def wait(self) -> None:
        """Wait until all processes are here."""


class Channel:
    """Takes commands, sends reports, and ends the process when its owner is gone.

    Two threads do it: one reads commands, one ticks once a second. A third, the main one, trains.

    Args:
        scratch: the worker's temporary folder, removed when the owner is gone.
        heartbeat_timeout: seconds of silence after which the owner counts as gone.
    """

    def __init__(self, scratch: Path, heartbeat_timeout: float) -> None:
        self.scratch = scratch
        self.leads = True  # and nobody follows
        self._timeout = heartbeat_timeout
        self._heard = time.monotonic()
        self._jobs: queue.SimpleQueue[JobSpec] = queue.SimpleQueue()
        self._canceled: set[str] = set()
        self._progress: Progress | None = None
        self._lock = threading.Lock()
        # Libraries print: what they write to standard output goes to standard error from here on.
        self._output = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        threading.Thread(target=self._read, name="commands", daemon=True).start()
        threading.Thread(target=self._tick, name="ticks", daemon=True).start()

    def ready(self, seconds: float) -> None:
        """Say that jobs are taken now."""
        self._send(Ready(pid=os.getpid(), seconds=seconds))

    def jobs(self) -> Iterator[JobSpec]:
        """Yield the jobs as they come."""
        while True:
            spec = self._jobs.get()
            self._report(Progress(job_id=spec.job_id))
            yield spec

    def update(self, **changes: Any) -> None:
        """Change what the job's progress says; a new phase is told at once, the rest with the tick.

        Raises:
            JobCanceled: when the job should stop.
        """
        before = self._progress
        if before is None:
            raise RuntimeError("no job is being trained")
        if before.job_id in self._canceled:
            raise JobCanceled(before.job_id)
        after = before.model_copy(update=changes)
        if after.phase == before.phase:
            self._progress = after
        else:
            self._report(after)

    def share(self, text: str) -> str:
        """Return the text."""
        return text

    def wait(self) -> None:
        """Wait for nobody."""

    def finish(self, report: Terminal) -> None:
        """Say how the job ended, after its last progress and all of its output."""
        with self._lock:
            last, self._progress = self._progress, None
        _mark_end_of_output(report.job_id)
        if last is not None:
            self._send(last)
        self._send(report)

    def _report(self, progress: Progress) -> None:
        self._progress = progress
        self._send(progress)

    def _send(self, report: Report) -> None:
        with self._lock:
            self._write(report)

    def _write(self, report: Report) -> None:
        self._output.write(report.to_json() + b"\n")

    def _read(self) -> None:
        for line in sys.stdin.buffer:
            self._heard = time.monotonic()
            try:
                command = COMMANDS.validate_json(line)
            except ValidationError as error:
                self._refuse(line, error)
                continue
            if isinstance(command, RunJob):
                self._canceled.discard(command.spec.job_id)  # may be a leftover of an earlier attempt
                self._jobs.put(command.spec)
            elif isinstance(command, CancelJob):
                self._canceled.add(command.job_id)
        self._leave("the owner closed the line")

    def _refuse(self, line: bytes, error: ValidationError) -> None:
        """End a job that this worker does not understand, which one of another version may have sent."""
        reasons = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        job_id = str(json.loads(line)["spec"]["job_id"])
        _mark_end_of_output(job_id)
        self._send(
            Failed(job_id=job_id, code="unreadable_job", message=f"the worker refuses the job: {reasons}")
        )

    def _tick(self) -> None:
        silent = 0
        # Twice in a row: after a pause of the whole process the reader must catch up first.
        while silent < 2:
            time.sleep(_TICK)
            silent = silent + 1 if time.monotonic() - self._heard > self._timeout else 0
            with self._lock:
                if self._progress is not None:
                    self._write(self._progress)
        self._leave(f"the owner was silent for {self._timeout:g} s")

    def _leave(self, reason: str) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        # Nobody may read any more, and another thread may be stuck in writing for that reason.
        os.set_blocking(sys.stderr.fileno(), False)
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), f"trainer worker {os.getpid()} ends: {reason}\n".encode())
        os._exit(EXIT_ORPHANED)


def _mark_end_of_output(job_id: str) -> None:
    sys.stderr.flush()
    os.write(sys.stderr.fileno(), end_of_output(job_id))
