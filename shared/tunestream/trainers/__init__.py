"""Who trains: one protocol and its backends."""

from tunestream.trainers.backend import TrainerBackend
from tunestream.trainers.collection_rows import rows_of
from tunestream.trainers.harness import TaskAdapter
from tunestream.trainers.port import (
    JobSpec,
    TrainerAdapter,
    TrainingFailed,
    TrainingResult,
    UnknownJob,
    is_infrastructure,
)
from tunestream.trainers.registry import check_backend, find_backend

__all__ = [
    "JobSpec",
    "TaskAdapter",
    "TrainerAdapter",
    "TrainerBackend",
    "TrainingFailed",
    "TrainingResult",
    "UnknownJob",
    "check_backend",
    "find_backend",
    "is_infrastructure",
    "rows_of",
]
