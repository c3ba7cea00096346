"""The owner's side of the process that loads torch and TRL."""

from __future__ import annotations

from typing import Final

from tunestream.trainers.worker.handle import Program, WorkerHandle
from tunestream.trainers.worker.settings import WorkerSettings

__all__ = ["TRLWorkerHandle"]

_PROGRAM: Final = Program(
    extra="trl",
    runner="tunestream.trainers.trl.runner",
    needs=("torch", "transformers", "peft", "trl", "datasets"),
    by_accelerate=True,
)


class TRLWorkerHandle(WorkerHandle):
    """A worker process that trains with TRL.

    Args:
        settings: deadlines; by default from the environment.
    """

    def __init__(self, settings: WorkerSettings | None = None) -> None:
        super().__init__(settings, program=_PROGRAM)
