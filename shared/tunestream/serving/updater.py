"""Keeps model servers at what is promoted.

Each server of each run has a keeper of its own: a server that is away holds up neither the others nor
training, and is caught up when it returns. Nothing is remembered: what is promoted comes from the source,
what is served from the server, so a restart loses nothing and a rollback is a promotion like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Final, Protocol, Self

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential, wait_random

from tunestream.serving import metrics
from tunestream.serving.folders import AdapterFolders
from tunestream.serving.plan import Desired, Loaded, Target, plan, serves
from tunestream.serving.servers import ModelServer, ServerFault

__all__ = ["ServingUpdater", "TargetSource", "Timing"]

log = structlog.get_logger(__name__)

# The first wait after a fault, in seconds; doubled up to Timing.retry_seconds.
_FIRST_RETRY: Final = 0.2
# A look at the source when it reports no change, in seconds: bounds how long a lost change stays unseen.
_LOOK_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Waits, in seconds.

    Attributes:
        check_seconds: between two looks at a server that is up to date.
        retry_seconds: the longest wait before a server that is not is tried again.
        request_seconds: for one answer.
        update_seconds: for all steps of one try, copies of weights included.
    """

    check_seconds: float = 10.0
    retry_seconds: float = 10.0
    request_seconds: float = 60.0
    update_seconds: float = 600.0


class TargetSource(Protocol):
    """What servers are for now; ``changed`` is set after it may have become something else."""

    changed: asyncio.Event

    def targets(self) -> Iterable[Target]:
        """Return what each server is for."""


class ServingUpdater:
    """Updates servers while entered.

    Args:
        source: what they are for.
        folders: where weights are.
        timing: waits.
    """

    def __init__(self, source: TargetSource, folders: AdapterFolders, timing: Timing) -> None:
        self._source = source
        self._folders = folders
        self._timing = timing
        self._keepers: dict[tuple[str, str], _Keeper] = {}
        self._follower: asyncio.Task[None] | None = None
        self._fault: str | None = None

    async def __aenter__(self) -> Self:
        self._follower = asyncio.create_task(self._follow(), name="serving")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        await asyncio.gather(*(keeper.stop() for keeper in self._keepers.values()))
        self._keepers.clear()

    @property
    def settled(self) -> bool:
        """Whether every server had everything that it should when it was last asked."""
        return all(keeper.settled for keeper in self._keepers.values())

    def warnings(self) -> list[str]:
        """Return which servers do not serve what is promoted, and why."""
        found = [keeper.warning for keeper in self._keepers.values()]
        return [text for text in (self._fault, *found) if text is not None]

    async def _follow(self) -> None:
        while True:
            self._source.changed.clear()
            try:
                await self._apply({(each.run_id, each.server.url): each for each in self._source.targets()})
                self._fault = None
            except Exception as error:
                self._fault = f"serving: {error!r}"
                log.exception("serving.fault")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._source.changed.wait()

    async def _apply(self, wanted: dict[tuple[str, str], Target]) -> None:
        gone = [self._keepers.pop(key) for key in set(self._keepers) - set(wanted)]
        await asyncio.gather(*(keeper.stop() for keeper in gone))
        for key, target in wanted.items():
            if key in self._keepers:
                self._keepers[key].retarget(target)
            else:
                self._keepers[key] = _Keeper(target, self._folders, self._timing, self._prune)

    async def _prune(self, run_id: str) -> None:
        """Drop copies of weights once every server of the run is where it should be."""
        keepers = [keeper for (run, _), keeper in self._keepers.items() if run == run_id]
        if all(keeper.settled for keeper in keepers):
            kept = [version for keeper in keepers for version in keeper.versions()]
            try:
                await self._folders.prune(run_id, kept)
            except OSError:  # copies that stay take room, nothing else
                log.exception("serving.copies_not_deleted", run=run_id)


class _Keeper:
    """One server of one run."""

    def __init__(
        self,
        target: Target,
        folders: AdapterFolders,
        timing: Timing,
        on_settled: Callable[[str], Awaitable[None]],
    ) -> None:
        self._target = target
        self._folders = folders
        self._timing = timing
        self._on_settled = on_settled
        self._promoted_at: float | None = None
        self._settled: Target | None = None
        self._problem: str | None = "not asked yet"
        self._woken = asyncio.Event()
        self._labels = (target.run_id, target.server.url)
        metrics.IN_SYNC.labels(*self._labels).set(0)
        self._log = log.bind(run=target.run_id, server=target.server.url)
        self._task = asyncio.create_task(self._keep(), name=f"serving {target.run_id} {target.server.url}")

    @property
    def settled(self) -> bool:
        """Whether the server had everything that it should when it was last asked."""
        return self._settled == self._target

    @property
    def warning(self) -> str | None:
        """What is wrong, None when nothing is."""
        if self._problem is None:
            return None
        run, server = self._labels
        return f"run {run}: {server} should serve {self._target.name}: {self._problem}"

    def versions(self) -> list[str]:
        """Return the versions that the server should have."""
        return [version.version for version in (self._target.current, *self._target.previous)]

    def retarget(self, target: Target) -> None:
        """Give the server another purpose, at once; the same one again changes nothing."""
        if target == self._target:
            return
        if target.current.version != self._target.current.version:
            self._promoted_at = monotonic()
        self._target = target
        self._woken.set()

    async def stop(self) -> None:
        """Leave the server as it is."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for metric in (metrics.IN_SYNC, metrics.UPDATE_SECONDS):
            with contextlib.suppress(KeyError):
                metric.remove(*self._labels)

    async def _keep(self) -> None:
        while True:
            try:
                await self._run()
            except Exception as error:  # noqa: BLE001 - a bug here is reported, and the server asked again
                self._problem = repr(error)
                self._log.exception("serving.fault")
                await self._pause(self._timing.retry_seconds)

    async def _run(self) -> None:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(ServerFault),
            wait=wait_exponential(_FIRST_RETRY, self._timing.retry_seconds) + wait_random(0, _FIRST_RETRY),
            before_sleep=self._note,
            sleep=self._pause,
        )
        while True:
            config = self._target.server
            async with ModelServer(config, timeout=self._timing.request_seconds) as server:
                while self._target.server == config:
                    await retrying(self._try, server)
                    await self._pause(self._timing.check_seconds)

    async def _pause(self, seconds: float) -> None:
        """Wait, at most until the server gets another purpose."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()

    def _note(self, state: RetryCallState) -> None:
        assert state.outcome is not None
        fault = state.outcome.exception()
        assert isinstance(fault, ServerFault)
        metrics.FAULTS.labels(*self._labels, fault.reason).inc()
        if self._problem != str(fault):
            self._log.warning(
                "serving.not_updated", version=self._target.name, reason=fault.reason, problem=str(fault)
            )
        self._problem = str(fault)

    async def _try(self, server: ModelServer) -> None:
        """Bring the server to its purpose as of now; not when it is to be asked otherwise.

        Raises:
            ServerFault: when it is not there afterwards.
        """
        target = self._target
        if target.server != server.config:
            return  # still woken, so that nobody pauses before the other way is taken
        self._woken.clear()
        try:
            async with asyncio.timeout(self._timing.update_seconds):
                await self._update(server, target)
        except ServerFault:
            raise
        except TimeoutError:
            seconds = self._timing.update_seconds
            raise ServerFault("unreachable", f"the update took longer than {seconds:.0f} s") from None
        except Exception as error:
            self._log.exception("serving.fault")
            raise ServerFault("fault", repr(error)) from error
        self._problem = None
        if self._settled != target:
            self._settled = target
            self._log.info("serving.updated", version=target.name)
            await self._on_settled(target.run_id)

    async def _update(self, server: ModelServer, target: Target) -> None:
        loaded = await self._loaded(server)
        desired = await self._folders.desired(target)
        self._measure(desired, loaded)
        steps = plan(desired, loaded, in_place=server.in_place)
        if not steps:
            return
        if self._settled == target:
            self._alarm(target, loaded)
        for step in steps:
            await server.perform(step)
        loaded = await self._loaded(server)
        self._measure(desired, loaded)
        if left := plan(desired, loaded, in_place=server.in_place):
            names = ", ".join(sorted({step.name for step in left}))
            raise ServerFault("not_served", f"took every step and does not list as it should: {names}")

    async def _loaded(self, server: ModelServer) -> Loaded:
        try:
            return await server.loaded()
        except ServerFault:
            metrics.IN_SYNC.labels(*self._labels).set(0)
            raise

    def _measure(self, desired: Desired, loaded: Loaded) -> None:
        in_sync = serves(desired, loaded)
        metrics.IN_SYNC.labels(*self._labels).set(in_sync)
        if in_sync and self._promoted_at is not None:
            metrics.UPDATE_SECONDS.labels(*self._labels).observe(monotonic() - self._promoted_at)
            self._promoted_at = None

    def _alarm(self, target: Target, loaded: Loaded) -> None:
        self._settled = None
        self._problem = "it listed it and does so no more"
        metrics.DRIFTS.labels(*self._labels).inc()
        listed = sorted(name for name in loaded if name in target.owned)
        self._log.error("serving.drift", version=target.name, listed=listed)
