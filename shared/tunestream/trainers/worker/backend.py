"""A backend whose jobs train in a worker process of this machine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

from tunestream.trainers.port import (
    Checkpoint,
    JobSpec,
    Progress,
    Report,
    Stop,
    TrainingCanceled,
    TrainingFailed,
    TrainingResult,
    stop_of,
)
from tunestream.trainers.worker import protocol
from tunestream.trainers.worker.handle import WorkerDied, WorkerHandle

__all__ = ["WorkerBackend"]


class WorkerBackend:
    """Trains jobs one after another, in the order in which they come.

    A job that is stopped as CANCELED or LOST ends after its current step; SHUTDOWN kills the worker.

    Args:
        worker: does the work.
        owns_worker: whether closing the backend ends the worker.
    """

    def __init__(self, worker: WorkerHandle, *, owns_worker: bool = True) -> None:
        self.worker = worker
        self._owns_worker = owns_worker
        self._running: set[asyncio.Task[TrainingResult]] = set()

    async def check(self) -> None:
        """Start the worker, so that the first job does not wait for it.

        Raises:
            TrainingFailed: when what it needs is not installed, or it does not come up.
        """
        with _death_is_a_failure():
            await self.worker.start()

    async def train(self, spec: JobSpec, report: Report) -> TrainingResult:
        """Train a job; see :meth:`tunestream.trainers.Backend.train`."""
        stopping = asyncio.Event()
        running = asyncio.create_task(self._train(spec, report, stopping), name=f"worker-{spec.job_id}")
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            if stop_of(error) is not Stop.SHUTDOWN:
                stopping.set()
                await self.worker.cancel(spec.job_id)
                await asyncio.wait({running})
            raise
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        if running.cancelled():
            raise TrainingFailed("closed", "the trainer was closed")
        return running.result()

    async def close(self) -> None:
        """Stop what runs, and end the worker."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._owns_worker:
            await self.worker.close()

    async def _train(self, spec: JobSpec, report: Report, stopping: asyncio.Event) -> TrainingResult:
        checkpoint = 0
        async with _reports(self.worker, spec) as reports:
            async for one in reports:
                if isinstance(one, protocol.Terminal):
                    return _result(one)
                if one.checkpoint > checkpoint:
                    checkpoint = one.checkpoint
                    report(Checkpoint(step=checkpoint))
                report(_progress(one))
                if stopping.is_set():  # it may have been asked before it took the job
                    await self.worker.cancel(spec.job_id)
        raise TrainingFailed("worker_died", "the worker reported no end of its job")


@contextlib.contextmanager
def _death_is_a_failure() -> Iterator[None]:
    try:
        yield
    except WorkerDied as death:
        raise TrainingFailed("worker_died", str(death)) from death


@contextlib.asynccontextmanager
async def _reports(
    worker: WorkerHandle, spec: JobSpec
) -> AsyncIterator[AsyncIterator[protocol.Progress | protocol.Terminal]]:
    """Run a job; leaving it early kills the worker."""
    with _death_is_a_failure():
        async with contextlib.aclosing(worker.run(spec)) as reports:
            yield reports


def _progress(one: protocol.Progress) -> Progress:
    return Progress.model_validate(one.model_dump(exclude={"job_id", "checkpoint"}))


def _result(end: protocol.Terminal) -> TrainingResult:
    """Return what a job made.

    Raises:
        TrainingFailed: when it could not be trained.
        TrainingCanceled: when it was stopped.
    """
    if isinstance(end, protocol.Failed):
        raise end.failure
    if isinstance(end, protocol.Canceled):
        raise TrainingCanceled("canceled", "canceled as asked")
    assert isinstance(end, protocol.Finished)
    return end.result
