"""The owner's side of a child process, for every kind of child."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from tunestream.events.base import Wire
from tunestream.trainers.redaction import Redactor
from tunestream.trainers.worker.launching import launcher_arguments
from tunestream.trainers.worker.lines import HEARTBEAT, READY, faults_of
from tunestream.trainers.worker.output import OutputReader
from tunestream.trainers.worker.program import Program
from tunestream.trainers.worker.settings import ENVIRONMENT, WorkerSettings

__all__ = ["ChildProcess", "WorkerDied", "WorkerSilent"]

R = TypeVar("R")


class WorkerDied(Exception):
    """The process ended, or had to be killed, before its work did. Another attempt may succeed."""


class WorkerSilent(WorkerDied):
    """The process was killed because it gave no sign of life."""


class ChildProcess(Generic[R]):
    """A process that is started when it is needed, and ends with its owner.

    The owner sends messages and signs of life, and reads messages. It notices when the child ends or falls
    silent. What the child prints goes to this process's standard error, without secrets.

    One task at a time may send commands and read their reports; :meth:`kill` and :meth:`close` may come from
    others.

    Args:
        program: what it runs.
        reports: reads the child's messages.
        settings: its deadlines; by default from the environment.
        keep: takes every printed line, too.
    """

    def __init__(
        self,
        program: Program,
        reports: TypeAdapter[R],
        settings: WorkerSettings | None = None,
        *,
        keep: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.program = program
        self.redact = Redactor()
        self._reports = reports
        self._settings = settings or WorkerSettings()
        self._keep = keep
        self._process: Process | None = None
        self._scratch: str | None = None
        self._heart: asyncio.Task[None] | None = None
        self._output: OutputReader | None = None
        self._starting = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The living child's process id."""
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def is_team(self) -> bool:
        """Whether ``accelerate`` launches several processes that work together."""
        return self.program.by_accelerate and self._settings.accelerate_config is not None

    async def start(self) -> None:
        """Start the child unless it lives; it takes commands when this returns.

        Raises:
            TrainingFailed: when what it needs is not installed.
            WorkerDied: when it does not come up.
        """
        async with self._starting:
            if self.pid is None:
                await self._start()

    async def send(self, message: Wire) -> None:
        """Send a command. That the child has ended is noticed by the next :meth:`receive`."""
        await self._write(message.to_json() + b"\n")

    async def receive(self, silence: float | None = None) -> R:
        """Return the child's next message.

        Args:
            silence: seconds without a message or a sign of life after which the child is killed.

        Raises:
            WorkerDied: when there is none.
        """
        while (line := await self._read(silence)) == HEARTBEAT:
            pass
        try:
            return self._reports.validate_json(line)
        except ValidationError as error:
            await self.kill()
            raise WorkerDied(
                f"{self.program.name} sent what its owner cannot read: {faults_of(error)}"
            ) from error

    async def output_until(self, mark: str) -> None:
        """Wait until all is read that the child printed before it marked the end of a command's output."""
        if self._output is not None:
            await self._output.until_end_of(mark)

    async def ended(self) -> None:
        """Wait until the child has ended by itself."""
        if self._process is not None:
            await self._process.wait()

    async def close(self) -> None:
        """End the child: by closing its line, by force when that takes too long."""
        process = self._process
        if process is not None and process.returncode is None and process.stdin is not None:
            process.stdin.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), self._settings.close_timeout)
        await self.kill()

    async def kill(self) -> None:
        """End the child at once, and remove what it left."""
        process, self._process = self._process, None
        output, self._output = self._output, None
        scratch, self._scratch = self._scratch, None
        heart, self._heart = self._heart, None
        if heart is not None:
            heart.cancel()
        if process is not None:
            self._end(process)
            await process.wait()
        if output is not None:
            await output.close()
        if scratch is not None:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)

    async def _start(self) -> None:
        self.program.check_installed()
        await self.kill()
        ready = False
        try:
            await self._spawn()
            ready = await self._read(self._settings.start_timeout) == READY
        finally:
            if not ready:
                await self.kill()
        if not ready:
            raise WorkerDied(f"{self.program.name} did not begin with its start")

    async def _spawn(self) -> None:
        program, file = self.program, self._settings.accelerate_config
        launcher = launcher_arguments(file) if file is not None and self.is_team else ["-m"]
        self._scratch = await asyncio.to_thread(tempfile.mkdtemp, prefix="tunestream-worker-")
        self._process = await asyncio.create_subprocess_exec(
            program.python,
            *launcher,
            "tunestream.trainers.worker.main",
            *("--serves", program.serves),
            *("--runner", program.runner),
            *("--heartbeat-timeout", str(self._settings.heartbeat_timeout)),
            *("--scratch", self._scratch),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env={**ENVIRONMENT, **os.environ, **program.environment},
            limit=program.longest_message,
            start_new_session=self.is_team or program.ends_children,  # torch's launcher heeds interrupts
        )
        assert self._process.stderr is not None
        self._output = OutputReader(self._process.stderr, self.redact, self._keep)
        self._heart = asyncio.create_task(self._beat(), name="worker-heartbeat")

    async def _beat(self) -> None:
        while self.pid is not None:
            await self._write(HEARTBEAT)
            await asyncio.sleep(self._settings.heartbeat_timeout / 4)

    async def _write(self, line: bytes) -> None:
        stdin: Any = self._process and self._process.stdin
        if stdin is None:
            return
        # A line that broke means a dead child, which the next read reports with its reason.
        with contextlib.suppress(ConnectionError):
            stdin.write(line)
            await stdin.drain()

    async def _read(self, silence: float | None) -> bytes:
        """Return the child's next line."""
        name = self.program.name
        stdout: Any = self._process and self._process.stdout
        if stdout is None:
            raise WorkerDied(f"{name} was killed")
        try:
            async with asyncio.timeout(silence):  # wait_for may swallow a cancellation
                line: bytes = await stdout.readline()
        except TimeoutError:
            await self.kill()
            raise WorkerSilent(f"{name} gave no sign of life for {silence:g} s and was killed") from None
        except ValueError:  # asyncio's, for a line above the limit
            await self.kill()
            limit = self.program.longest_message
            raise WorkerDied(f"{name} sent a message of more than {limit} bytes and was killed") from None
        if not line.endswith(b"\n"):
            raise WorkerDied(f"{name} {await self._epitaph()}")
        return line

    async def _epitaph(self) -> str:
        """Return how the child ended."""
        process = self._process
        if process is None:
            return "was killed"
        code = await process.wait()
        if code == -signal.SIGKILL:
            return "was killed by signal 9; if nobody did it, the machine ran out of memory"
        how = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
        return f"{how}; {self.program.log} has the reason"

    def _end(self, process: Process) -> None:
        """Kill a child that may have ended already; those that it started first, while they are known."""
        if process.returncode is None and self.is_team:
            _kill_descendants(process.pid)
        with contextlib.suppress(ProcessLookupError):
            if self.program.ends_children:
                os.killpg(process.pid, signal.SIGKILL)
            elif process.returncode is None:
                process.kill()


def _kill_descendants(pid: int) -> None:
    import psutil  # noqa: PLC0415 - comes with accelerate

    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
