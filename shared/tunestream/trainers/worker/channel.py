"""The training worker's side of the line to its owner."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from tunestream.trainers.port import JobSpec
from tunestream.trainers.worker.child import OwnerLine
from tunestream.trainers.worker.lines import faults_of
from tunestream.trainers.worker.protocol import COMMANDS, Failed, Progress, RunJob, Terminal

__all__ = ["Channel", "JobCanceled", "JobRunner", "Line"]


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
        """Change the job's progress, as :meth:`Progress.after` does.

        Raises:
            JobCanceled: when the job should stop.
        """

    def share(self, text: str) -> str:
        """Return the leader's text in all processes."""

    def wait(self) -> None:
        """Wait until all processes are here."""


class JobRunner(Protocol):
    """A module that trains jobs, in the worker's processes."""

    def settle(self) -> None:
        """Prepare for the first job; called once, before jobs are taken."""

    def run(self, spec: JobSpec, line: Any) -> Terminal:
        """Train one job and return how it ended; it never raises.

        Args:
            spec: the job.
            line: a :class:`Line`; takes its progress.
        """


class Channel:
    """Takes jobs and their cancellations, sends progress and results.

    Args:
        scratch: the worker's temporary folder, removed when the owner is gone.
        heartbeat_timeout: seconds of silence after which the owner counts as gone.
    """

    def __init__(self, scratch: Path, heartbeat_timeout: float) -> None:
        self.scratch = scratch
        self.leads = True  # and nobody follows
        self._jobs: queue.SimpleQueue[JobSpec] = queue.SimpleQueue()
        self._canceled: set[str] = set()
        self._progress: Progress | None = None
        self._owner = OwnerLine(scratch, heartbeat_timeout, self._receive)

    def ready(self) -> None:
        """Report that jobs are taken now."""
        self._owner.ready()

    def jobs(self) -> Iterator[JobSpec]:
        """Yield the jobs as they come."""
        while True:
            spec = self._jobs.get()
            self._report(Progress(job_id=spec.job_id))
            yield spec

    def update(self, **changes: Any) -> None:
        """Change the job's progress; a new phase is reported at once, the rest with the tick.

        Raises:
            JobCanceled: when the job should stop.
        """
        before = self._progress
        if before is None:
            raise RuntimeError("no job is being trained")
        if before.job_id in self._canceled:
            raise JobCanceled(before.job_id)
        after = before.after(**changes)
        if after.phase == before.phase:
            self._keep(after)
        else:
            self._report(after)

    def share(self, text: str) -> str:
        """Return the text."""
        return text

    def wait(self) -> None:
        """Wait for nobody."""

    def finish(self, report: Terminal) -> None:
        """Report how the job ended, after its last progress and all of its output."""
        last, self._progress = self._progress, None
        self._owner.repeat(None)
        self._owner.end_output(report.job_id)
        if last is not None:
            self._owner.send(last)
        self._owner.send(report)

    def _keep(self, progress: Progress) -> None:
        self._progress = progress
        self._owner.repeat(progress.to_json() + b"\n")

    def _report(self, progress: Progress) -> None:
        self._keep(progress)
        self._owner.send(progress)

    def _receive(self, line: bytes) -> None:
        try:
            command = COMMANDS.validate_json(line)
        except ValidationError as error:
            self._refuse(line, error)
            return
        if isinstance(command, RunJob):
            self._canceled.discard(command.spec.job_id)  # may be a leftover of an earlier attempt
            self._jobs.put(command.spec)
        else:
            self._canceled.add(command.job_id)

    def _refuse(self, line: bytes, error: ValidationError) -> None:
        """End a job that this worker does not understand, which one of another version may have sent."""
        job_id = str(json.loads(line)["spec"]["job_id"])
        self._owner.end_output(job_id)
        message = f"the worker refuses the job: {faults_of(error)}"
        self._owner.send(Failed(job_id=job_id, code="unreadable_job", message=message))
