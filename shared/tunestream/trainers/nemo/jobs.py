"""What the adapter remembers of a job."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Self

from tunestream.events.training import TrainingJobRef, TrainingJobStatus, TrainingStatusEnum
from tunestream.trainers.nemo.config import NeMoCustomizerTrainerAdapterConfig
from tunestream.trainers.nemo.records import Records
from tunestream.trainers.nemo.states import TERMINAL, Verdict
from tunestream.trainers.nemo.views import JobView

__all__ = ["BACKEND", "Job"]

BACKEND: Final = "nemo-customizer"


@dataclass(slots=True)
class Job:
    """One job and its latest status.

    Attributes:
        attempt: a failed or cancelled job of the service is replaced by one of a higher attempt.
        config: what to train and how.
        load: reads the dataset, in a thread; None for a job that is only watched.
        ours: nobody else counts its attempts, and it ends with the adapter.
        status: the latest.
        interval: seconds between two looks at the service.
        remote: the service's job, once it is known.
    """

    attempt: int
    config: NeMoCustomizerTrainerAdapterConfig
    load: Callable[[], Records] | None
    ours: bool
    status: TrainingJobStatus
    interval: float
    remote: JobView | None = None
    cancel_wanted: bool = False
    task: asyncio.Task[None] | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def pending(
        cls,
        run_id: str,
        job_id: str,
        config: NeMoCustomizerTrainerAdapterConfig,
        load: Callable[[], Records] | None,
        *,
        attempt: int = 1,
        ours: bool = False,
    ) -> Self:
        """Return a job that waits for its watcher."""
        status = TrainingJobStatus(
            run_id=run_id,
            backend=BACKEND,
            status=TrainingStatusEnum.PENDING,
            job_id=job_id,
            sequence=0,
            time=datetime.now(UTC),
        )
        return cls(attempt, config, load, ours, status, config.poll_interval_seconds)

    @property
    def run_id(self) -> str:
        """Whose job."""
        return self.status.run_id

    @property
    def job_id(self) -> str:
        """Our name for the job."""
        return self.status.job_id

    @property
    def ref(self) -> TrainingJobRef:
        """What names the job, also after a restart."""
        return TrainingJobRef(run_id=self.run_id, backend=BACKEND, metadata={"job_id": self.job_id})

    @property
    def ended(self) -> bool:
        """Whether the status is terminal."""
        return self.status.status in TERMINAL

    def tell(self, verdict: Verdict, metadata: dict[str, Any] | None = None) -> None:
        """Take over what is new; a terminal status stays."""
        new = {"status": verdict.status, "progress": verdict.progress, "message": verdict.message}
        old = {name: getattr(self.status, name) for name in new}
        if self.ended or (new == old and metadata is None):
            return
        step = {"sequence": self.status.sequence + 1, "time": datetime.now(UTC), "metadata": metadata}
        self.status = self.status.model_copy(update={**new, **step})

    def say(self, message: str) -> None:
        """Change nothing but the message."""
        self.tell(Verdict(self.status.status, message, self.status.progress))

    def end(self, status: TrainingStatusEnum, reason: str, message: str) -> None:
        """End without a model, unless the job has ended."""
        self.tell(Verdict(status, message, self.status.progress), {"reason": reason})
        self.done.set()

    def complete(self, message: str, metadata: dict[str, Any]) -> None:
        """End with a model."""
        self.tell(Verdict(TrainingStatusEnum.COMPLETED, message, 100.0), metadata)
        self.done.set()

    def wake(self) -> None:
        """Look at the service now."""
        self._wake.set()

    async def pause(self, seconds: float) -> None:
        """Wait until the next look is due, or wanted."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
        self._wake.clear()
