"""The owner's side of a worker process."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tunestream.trainers.port import JobSpec, TrainingFailed
from tunestream.trainers.redaction import Redactor
from tunestream.trainers.worker.launching import launcher_arguments
from tunestream.trainers.worker.output import OutputReader
from tunestream.trainers.worker.protocol import (
    REPORTS,
    CancelJob,
    Command,
    Failed,
    Heartbeat,
    Progress,
    Ready,
    Report,
    RunJob,
    Terminal,
)
from tunestream.trainers.worker.recorder import Recorder
from tunestream.trainers.worker.settings import ENVIRONMENT, WorkerSettings

__all__ = ["Program", "WorkerDied", "WorkerHandle"]

_LINE_LIMIT: Final = 1 << 20  # bytes of one report


@dataclass(frozen=True, slots=True)
class Program:
    """What a worker runs.

    Attributes:
        extra: of tunestream, that it needs.
        runner: the module that trains jobs: ``settle()``, and ``run(spec, channel)``, which never raises.
        needs: packages; looked for before a worker is started with this interpreter.
        python: the interpreter.
        environment: variables beside those of this process.
        by_accelerate: whether several processes may train a job together, launched by ``accelerate``.
    """

    extra: str
    runner: str
    needs: tuple[str, ...] = ()
    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)
    by_accelerate: bool = False


_TRL: Final = Program(
    extra="trl",
    runner="tunestream.trainers.trl.runner",
    needs=("torch", "transformers", "peft", "trl", "datasets"),
    by_accelerate=True,
)


class WorkerDied(Exception):
    """The worker ended, or had to be killed, before its job did. Another attempt may succeed."""


class WorkerHandle:
    """Starts a worker process when it is needed, gives it jobs one by one, and ends it.

    What the worker prints goes to this process's standard error, and with its reports to the log of the
    attempt in the artifact store.

    One task at a time may run jobs; :meth:`cancel`, :meth:`kill` and :meth:`close` may come from others.
    """

    def __init__(self, settings: WorkerSettings | None = None, *, program: Program = _TRL) -> None:
        self.settings = settings or WorkerSettings()
        self._program = program
        self._process: Process | None = None
        self._scratch: str | None = None
        self._is_spent = False
        self._heart: asyncio.Task[None] | None = None
        self._redact = Redactor()
        self._output: OutputReader | None = None
        self._recorder: Recorder | None = None
        self._starting = asyncio.Lock()
        self._busy = asyncio.Lock()

    @property
    def _by_accelerate(self) -> bool:
        return self._program.by_accelerate and self.settings.accelerate_config is not None

    @property
    def pid(self) -> int | None:
        """The living worker's process id."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Start the worker unless it lives; it takes jobs when this returns.

        Raises:
            TrainingFailed: when what it needs is not installed.
            WorkerDied: when it does not come up.
        """
        async with self._starting:
            if self.pid is None:
                await self._start()

    async def run(self, spec: JobSpec) -> AsyncGenerator[Progress | Terminal, None]:
        """Train a job: yields its progress at least every 2 s, and how it ended as the last.

        Close the iterator (``contextlib.aclosing``) when you leave it early: that kills the worker.

        Raises:
            TrainingFailed: when what the worker needs is not installed.
            WorkerDied: when the worker ends, falls silent or stalls.
        """
        async with self._busy, self._recorded(spec) as recorder:
            await self.start()
            recorder.said(f"attempt {spec.attempt} goes to worker {self.pid}")
            await self._send(RunJob(spec=spec))
            finished = False
            try:
                async for report in self._reports():
                    finished = isinstance(report, Terminal)
                    # The other processes of a job that failed in one of them may wait for that one forever.
                    self._is_spent = self._by_accelerate and isinstance(report, Failed)
                    if finished and self._output is not None:
                        await self._output.until_end_of(spec.job_id)
                    recorder.reported(report)
                    if finished:
                        await recorder.close()
                    yield report
            finally:
                if not finished or self._is_spent:
                    await self.kill()

    async def cancel(self, job_id: str) -> None:
        """Ask the worker to stop a job after its current step; it answers in :meth:`run`."""
        if self.pid is not None:
            await self._send(CancelJob(job_id=job_id))

    async def close(self) -> None:
        """End the worker: by closing its line, by force when that takes too long."""
        process = self._process
        if process is not None and process.returncode is None and process.stdin is not None:
            process.stdin.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), self.settings.close_timeout)
        await self.kill()

    async def kill(self) -> None:
        """End the worker at once, and remove what it left."""
        process, self._process = self._process, None
        output, self._output = self._output, None
        scratch, self._scratch = self._scratch, None
        if self._heart is not None:
            self._heart.cancel()
            self._heart = None
        if process is not None:
            _kill(process, with_children=self._by_accelerate)
            await process.wait()
        if output is not None:
            await output.close()
        if scratch is not None:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)

    @contextlib.asynccontextmanager
    async def _recorded(self, spec: JobSpec) -> AsyncIterator[Recorder]:
        """Keep the log of an attempt."""
        recorder = self._recorder = Recorder(spec, self._redact)
        self._record()
        try:
            yield recorder
        except WorkerDied as death:
            recorder.said(f"broken off: {death}")
            raise
        finally:
            self._recorder = None
            self._record()
            await recorder.close()

    def _record(self) -> None:
        if self._output is not None:
            self._output.recorder = self._recorder

    async def _start(self) -> None:
        self.check_installed()
        await self.kill()
        ready = False
        try:
            await self._spawn()
            ready = isinstance(await self._receive(self.settings.start_timeout), Ready)
        finally:
            if not ready:
                await self.kill()

    def check_installed(self) -> None:
        """Look for what the worker needs; nothing is imported.

        Raises:
            TrainingFailed: when it is not installed.
        """
        program = self._program
        if program.python != sys.executable:
            if shutil.which(program.python) is None:
                raise TrainingFailed("missing_dependency", f"there is no interpreter {program.python}")
            return
        missing = [name for name in program.needs if importlib.util.find_spec(name) is None]
        if missing:
            raise TrainingFailed(
                "missing_dependency",
                f"the {program.extra} trainer needs {', '.join(missing)}: "
                f"pip install 'tunestream[{program.extra}]'",
            )

    def _launcher(self) -> list[str]:
        file = self.settings.accelerate_config
        return launcher_arguments(file) if file is not None and self._by_accelerate else ["-m"]

    async def _spawn(self) -> None:
        self._scratch = tempfile.mkdtemp(prefix="tunestream-worker-")
        self._process = await asyncio.create_subprocess_exec(
            self._program.python,
            *self._launcher(),
            "tunestream.trainers.worker.main",
            *("--runner", self._program.runner),
            *("--heartbeat-timeout", str(self.settings.heartbeat_timeout)),
            *("--scratch", self._scratch),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env={**ENVIRONMENT, **os.environ, **self._program.environment},
            limit=_LINE_LIMIT,
            start_new_session=self._by_accelerate,  # torch's launcher would end at a terminal's interrupt
        )
        assert self._process.stderr is not None
        self._output = OutputReader(self._process.stderr, self._redact)
        self._record()
        self._heart = asyncio.create_task(self._beat(), name="worker-heartbeat")

    async def _beat(self) -> None:
        while self.pid is not None:
            await self._send(Heartbeat())
            await asyncio.sleep(self.settings.heartbeat_timeout / 4)

    async def _reports(self) -> AsyncIterator[Progress | Terminal]:
        last, moved = None, time.monotonic()
        while True:
            report = await self._receive(self.settings.silence_timeout)
            if isinstance(report, Ready):
                raise WorkerDied("the worker started again in mid-job")
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

    async def _receive(self, timeout: float) -> Report:
        stdout: Any = self._process and self._process.stdout
        if stdout is None:
            raise WorkerDied("the worker was killed")
        try:
            line = await asyncio.wait_for(stdout.readline(), timeout)
        except TimeoutError:
            await self.kill()
            raise WorkerDied(f"the worker gave no sign of life for {timeout:g} s and was killed") from None
        if not line.endswith(b"\n"):
            raise WorkerDied(await self._epitaph())
        return REPORTS.validate_json(line)

    async def _send(self, command: Command) -> None:
        stdin: Any = self._process and self._process.stdin
        if stdin is None:
            return
        # A line that broke means a dead worker, which the next read tells with its reason.
        with contextlib.suppress(ConnectionError):
            stdin.write(command.to_json() + b"\n")
            await stdin.drain()

    async def _epitaph(self) -> str:
        process = self._process
        if process is None:
            return "the worker was killed"
        code = await process.wait()
        if code == -9:
            return "the worker was killed by signal 9; if nobody did it, the machine ran out of memory"
        how = f"was ended by signal {-code}" if code < 0 else f"exited with {code}"
        return f"the worker {how}; its log has the reason"


def _kill(process: Process, *, with_children: bool) -> None:
    """End a worker that may have ended already; its children first, while it is known whose they are."""
    if process.returncode is not None:
        return
    if with_children:
        import psutil  # noqa: PLC0415 - comes with accelerate

        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
    with contextlib.suppress(ProcessLookupError):
        process.kill()
