"""Processes that are kept running: started, restarted when they die, ended with this one.

A process that runs but answers that it is not live is ended and started again as if it had died.

Invariants: the death of a process is reported, with its reason, before it is started again; one
that keeps dying ends :meth:`Supervisor.wait`; when the block is left, none of them is alive.
"""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic, time
from types import TracebackType
from typing import Final, Self

import httpx

from tunestream.cli.child import ProcessSpec, kill_group, last_lines, name_of_code, start_process
from tunestream.cli.errors import Failure
from tunestream.cli.liveness import answering, until_dead
from tunestream.config.settings import SupervisorSettings

__all__ = ["KeepsDying", "NotReady", "Supervisor"]

_WINDOW: Final = 120.0


class KeepsDying(Failure):
    """A process died again and again."""


class NotReady(Failure):
    """Processes were not at work in time."""


class Supervisor:
    """Keeps processes running while its block is open.

    Args:
        specs: the processes; their names differ.
        report: called with a line or a few at every death and restart.
        stop_timeout: seconds that all have together to end by themselves, before they are killed.
        restart_waits: seconds before each restart, by default from the environment; one more death within
            two minutes ends :meth:`wait`.
        started: called when a process was started again.
        live_interval: seconds between two questions whether a process is live.
    """

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        *,
        report: Callable[[str], None],
        stop_timeout: float = 15.0,
        restart_waits: Sequence[float] | None = None,
        started: Callable[[], None] = lambda: None,
        live_interval: float = 5.0,
    ) -> None:
        self.specs = tuple(specs)
        self._report = report
        self._stop_timeout = stop_timeout
        self._waits = SupervisorSettings().restart_waits if restart_waits is None else tuple(restart_waits)
        self._started = started
        self._restarts: dict[str, list[float]] = {spec.name: [] for spec in self.specs}
        self._live_interval = live_interval
        self._processes: dict[str, Process] = {}
        self._keepers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        try:
            for spec in self.specs:
                await self._start(spec)
        except BaseException:
            await self._end_all()
            raise
        self._keepers = [asyncio.create_task(self._keep(spec), name=spec.name) for spec in self.specs]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await self._end_all()

    def pid(self, name: str) -> int:
        """Return the id of the process as it runs now."""
        return self._processes[name].pid

    def restarts(self, name: str) -> tuple[float, ...]:
        """Return when the process was started again, seconds since the epoch."""
        return tuple(self._restarts[name])

    async def wait(self) -> None:
        """Wait until a process keeps dying.

        Raises:
            KeepsDying: naming it and its last reason.
        """
        done, _ = await asyncio.wait(self._keepers, return_when=asyncio.FIRST_EXCEPTION)
        for keeper in done:
            keeper.result()

    async def wait_ready(self, timeout: float) -> None:
        """Wait until every process is at work.

        Args:
            timeout: seconds for all together.

        Raises:
            KeepsDying: when one dies again and again instead.
            NotReady: when the time is over; names each that is not ready and why.
        """
        racing = {asyncio.create_task(self.wait()), asyncio.create_task(self._all_ready(timeout))}
        try:
            done, _ = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in racing:
                task.cancel()
            await asyncio.gather(*racing, return_exceptions=True)

    async def _all_ready(self, timeout: float) -> None:
        reasons: dict[str, str] = {}
        try:
            async with asyncio.timeout(timeout), httpx.AsyncClient() as client:
                await asyncio.gather(*(self._ready(client, spec, reasons) for spec in self.specs))
        except TimeoutError:
            lines = (f"{name}: {reason}" for name, reason in sorted(reasons.items()))
            raise NotReady(f"not ready within {timeout:.0f} s:\n" + "\n".join(lines)) from None

    async def _ready(self, client: httpx.AsyncClient, spec: ProcessSpec, reasons: dict[str, str]) -> None:
        while spec.ready_url is not None:
            try:
                answer = await client.get(spec.ready_url)
                pid = answering(answer)
                if pid not in (None, self.pid(spec.name)):
                    reasons[spec.name] = f"another process, {pid}, answers at {spec.ready_url}: end it"
                elif answer.status_code == httpx.codes.OK:
                    break
                else:
                    reasons[spec.name] = answer.text
            except httpx.HTTPError as error:
                reasons[spec.name] = f"{spec.ready_url} does not answer ({type(error).__name__})"
            await asyncio.sleep(0.1)
        reasons.pop(spec.name, None)

    async def _keep(self, spec: ProcessSpec) -> None:
        deaths: deque[float] = deque(maxlen=len(self._waits) + 1)
        while True:
            code = await self._ended(spec)
            kill_group(self._processes[spec.name])
            deaths.append(monotonic())
            ended = f"{spec.name} ended with {name_of_code(code)}"
            reason = f"{ended}; its last lines in {spec.log}:\n{last_lines(spec.log)}"
            if code in spec.final_codes:
                raise KeepsDying(f"{reason}\n{spec.name} is not started again")
            recent = sum(monotonic() - death < _WINDOW for death in deaths)
            if recent > len(self._waits):
                raise KeepsDying(f"{reason}\n{spec.name} died {recent} times within {_WINDOW:.0f} s")
            wait = self._waits[recent - 1]
            self._report(f"{reason}\nit is started again " + (f"in {wait:g} s" if wait else "at once"))
            await asyncio.sleep(wait)
            await self._start(spec)
            self._restarts[spec.name].append(time())
            self._started()

    async def _ended(self, spec: ProcessSpec) -> int:
        """Wait until a process ended by itself, or was ended because it is not live; return its code."""
        process = self._processes[spec.name]
        if spec.live_url is None:
            return await process.wait()
        watching = asyncio.create_task(until_dead(spec.live_url, self._live_interval))
        ending = asyncio.create_task(process.wait())
        try:
            await asyncio.wait({watching, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                self._report(f"{spec.name} is not live and is ended: {watching.result()}")
                await self._end(process)
            return await ending
        finally:
            watching.cancel()
            ending.cancel()

    async def _end(self, process: Process) -> None:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(self._stop_timeout):
                await process.wait()
        except TimeoutError:
            kill_group(process)

    async def _start(self, spec: ProcessSpec) -> None:
        self._processes[spec.name] = await start_process(spec)

    async def _end_all(self) -> None:
        alive = [process for process in self._processes.values() if process.returncode is None]
        for process in alive:
            with suppress(ProcessLookupError):
                process.terminate()
        if alive:
            await asyncio.wait(
                {asyncio.create_task(process.wait()) for process in alive}, timeout=self._stop_timeout
            )
        for process in self._processes.values():
            kill_group(process)
            await process.wait()
