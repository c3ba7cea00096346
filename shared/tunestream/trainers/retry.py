"""How often, and after how long, another attempt follows one that broke off: the only place that knows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tunestream.trainers.attempt import train_once
from tunestream.trainers.port import (
    Backend,
    Checkpoint,
    JobSpec,
    Progress,
    TrainingFailed,
    TrainingResult,
)

__all__ = ["Retry", "is_infrastructure", "train_with_retries"]

_INFRASTRUCTURE: Final = frozenset(
    {
        "worker_died",
        "store_unreachable",
        "service_unreachable",
        "unhealthy",
        "job_vanished",
        "closed",
        "internal",
        "backend_error",
    }
)


def is_infrastructure(code: str) -> bool:
    """Return whether another attempt may succeed though nobody changes the job: the one table of codes."""
    return code in _INFRASTRUCTURE


@dataclass(frozen=True, slots=True)
class Retry:
    """The policy after a fault of the infrastructure; any other fault ends the job.

    Attributes:
        max_attempts: of one job, with the first.
        delay: seconds before the second attempt; doubled before each later one.
    """

    max_attempts: int = 3
    delay: float = 1.0

    def allows(self, broken: int) -> bool:
        """Return whether another attempt may follow when so many broke off."""
        return broken < self.max_attempts

    def follows(self, failure: TrainingFailed, broken: int) -> bool:
        """Return whether another attempt follows a failure; ``broken`` counts it."""
        return is_infrastructure(failure.code) and self.allows(broken)

    def seconds(self, broken: int) -> float:
        """Return how long to wait before the attempt that follows so many broken ones."""
        return self.delay * 2.0 ** (broken - 1) if broken else 0.0


async def train_with_retries(
    backend: Backend,
    spec: JobSpec,
    report: Callable[[Progress | Checkpoint], None],
    retry: Retry,
    next_attempt: Callable[[TrainingFailed], int],
) -> TrainingResult:
    """Train a job whose attempts nobody else counts.

    Args:
        backend: trains.
        spec: the job, with its first attempt.
        report: takes how far it is.
        retry: the policy.
        next_attempt: returns the number of the attempt that follows a failure.

    Raises:
        TrainingFailed: when it cannot be trained, enough attempts broke off, or one broke off while it was
            being stopped.
        TrainingCanceled: when the service that trains it canceled it.
    """
    broken = 0
    while True:
        try:
            return await train_once(backend, spec, report)
        except TrainingFailed as failure:
            broken += 1
            if not retry.follows(failure, broken) or _is_stopped():
                raise
            await asyncio.sleep(retry.seconds(broken))
            spec = spec.model_copy(update={"attempt": next_attempt(failure)})


def _is_stopped() -> bool:
    """Return whether the job was stopped; a backend that ended it may raise a failure all the same."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
