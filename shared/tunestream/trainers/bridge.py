"""The port over an adapter that keeps its own jobs; it goes when ART and NeMo have the port."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from tunestream.events.training import TrainingJobRef, TrainingJobStatus, TrainingStatusEnum
from tunestream.events.trajectories import TrajectoryCollection
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

__all__ = ["AdapterBackend"]

_LOOK_SECONDS: Final = 0.1


class AdapterBackend:
    """Submits jobs to an adapter and looks at their statuses.

    Args:
        adapter: has initialize, is_healthy, submit, status, wait_until_complete, cancel and close.
        ends_when_lost: a job that is lost is canceled.
    """

    def __init__(self, adapter: Any, *, ends_when_lost: bool) -> None:
        self._adapter = adapter
        self._ends_when_lost = ends_when_lost

    async def check(self) -> None:
        """Make the adapter ready."""
        await self._adapter.initialize()
        if not await self._adapter.is_healthy():
            raise TrainingFailed("unhealthy", "the backend is not healthy")

    async def train(self, spec: JobSpec, report: Report) -> TrainingResult:
        """Submit a job and look at it until it ends."""
        empty = TrajectoryCollection(trajectories=[], run_id=spec.run_id)
        try:
            ref = await self._adapter.submit(empty, job=spec)
        except ValueError as error:
            raise TrainingFailed("refused", f"the backend refuses the job: {error}") from error
        try:
            return await self._follow(ref, report)
        except asyncio.CancelledError as error:
            stop = stop_of(error)
            if stop is Stop.CANCELED or (stop is Stop.LOST and self._ends_when_lost):
                await self._adapter.cancel(ref)
                await self._adapter.wait_until_complete(ref, _LOOK_SECONDS)
            raise

    async def _follow(self, ref: TrainingJobRef, report: Report) -> TrainingResult:
        seen: TrainingJobStatus | None = None
        while True:
            status: TrainingJobStatus = await self._adapter.status(ref)
            if status.status is TrainingStatusEnum.COMPLETED:
                return TrainingResult.model_validate(status.metadata)
            code = str((status.metadata or {}).get("reason", "training_failed"))
            if status.status is TrainingStatusEnum.FAILED:
                raise TrainingFailed(code, status.message or "")
            if status.status is TrainingStatusEnum.CANCELED:
                raise TrainingCanceled(code, status.message or "")
            if status != seen and status.message is not None:
                seen = status
                _report(status, report)
            await asyncio.sleep(_LOOK_SECONDS)

    async def close(self) -> None:
        """Close the adapter."""
        await self._adapter.close()


def _report(status: TrainingJobStatus, report: Report) -> None:
    told = {name: value for name, value in (status.metadata or {}).items() if value is not None}
    where = {name: told.pop(name) for name in ("phase", "step", "total") if name in told}
    checkpoint = told.pop("checkpoint", 0)
    if checkpoint:
        report(Checkpoint(step=checkpoint))
    report(Progress(percent=status.progress or 0.0, message=status.message or "", metrics=told, **where))
