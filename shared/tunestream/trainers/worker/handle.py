"""The owner's side of a worker that trains."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator

from tunestream.trainers.port import JobSpec
from tunestream.trainers.worker.process import ChildProcess, WorkerDied
from tunestream.trainers.worker.program import Program
from tunestream.trainers.worker.protocol import REPORTS, CancelJob, Failed, Progress, RunJob, Terminal
from tunestream.trainers.worker.recorder import Recorder
from tunestream.trainers.worker.settings import WorkerSettings

__all__ = ["Program", "WorkerDied", "WorkerHandle"]


class WorkerHandle:
    """Starts a worker process when it is needed, gives it jobs one by one, and ends it.

    What the worker prints goes to this process's standard error, and with its reports to the log of the
    attempt in the artifact store.

    One task at a time may run jobs; :meth:`cancel`, :meth:`kill` and :meth:`close` may come from others.

    Args:
        settings: deadlines; by default from the environment.
        program: what trains.
    """

    def __init__(self, settings: WorkerSettings | None = None, *, program: Program) -> None:
        self.settings = settings or WorkerSettings()
        self._process = ChildProcess(program, REPORTS, self.settings, keep=self._keep)
        self._recorder: Recorder | None = None
        self._busy = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The living worker's process id."""
        return self._process.pid

    def check_installed(self) -> None:
        """Look for what the worker needs; nothing is imported.

        Raises:
            TrainingFailed: when it is not installed.
        """
        self._process.program.check_installed()

    async def start(self) -> None:
        """Start the worker unless it lives; it takes jobs when this returns.

        Raises:
            TrainingFailed: when what it needs is not installed.
            WorkerDied: when it does not come up.
        """
        await self._process.start()

    async def run(self, spec: JobSpec) -> AsyncGenerator[Progress | Terminal, None]:
        """Train a job: yields its progress at least every 2 s, and how it ended as the last.

        Close the iterator (``contextlib.aclosing``) when you leave it early: that kills the worker.

        Raises:
            TrainingFailed: when what the worker needs is not installed.
            WorkerDied: when the worker ends, falls silent or stalls.
        """
        async with self._busy, self._recorded(spec) as recorder:
            await self.start()
            recorder.note(f"attempt {spec.attempt} goes to worker {self.pid}")
            usable = False
            try:
                await self._process.send(RunJob(spec=spec))
                async for report in self._reports():
                    if isinstance(report, Terminal):
                        # The other processes of a job that failed in one may wait for that one forever.
                        usable = not (self._process.is_team and isinstance(report, Failed))
                        await self._process.output_until(spec.job_id)
                        recorder.report(report)
                        await recorder.close()
                    else:
                        recorder.report(report)
                    yield report
            finally:
                if not usable:
                    await self.kill()

    async def cancel(self, job_id: str) -> None:
        """Ask the worker to stop a job after its current step; it answers in :meth:`run`."""
        if self.pid is not None:
            await self._process.send(CancelJob(job_id=job_id))

    async def close(self) -> None:
        """End the worker: by closing its line, by force when that takes too long."""
        await self._process.close()

    async def kill(self) -> None:
        """End the worker at once, and remove what it left."""
        await self._process.kill()

    @contextlib.asynccontextmanager
    async def _recorded(self, spec: JobSpec) -> AsyncIterator[Recorder]:
        """Keep the log of an attempt."""
        recorder = self._recorder = Recorder(spec, self._process.redact)
        try:
            yield recorder
        except WorkerDied as death:
            recorder.note(f"broken off: {death}")
            raise
        finally:
            self._recorder = None
            await recorder.close()

    def _keep(self, line: str) -> None:
        if self._recorder is not None:
            self._recorder.keep(line)

    async def _reports(self) -> AsyncIterator[Progress | Terminal]:
        last, moved = None, time.monotonic()
        while True:
            report = await self._process.receive(self.settings.silence_timeout)
            yield report
            if isinstance(report, Terminal):
                return
            if last is None or (report.phase, report.step) != (last.phase, last.step):
                last, moved = report, time.monotonic()
            elif time.monotonic() - moved > self.settings.stall_timeout:
                limit = self.settings.stall_timeout
                raise WorkerDied(
                    f"no step finished for {limit:g} s while {report.phase}: the worker was killed"
                )
