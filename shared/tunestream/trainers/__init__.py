"""Who trains: one protocol and its backends."""

from tunestream.trainers.backend import TrainerBackend
from tunestream.trainers.backends import check_backend, find_backend
from tunestream.trainers.base import (
    JobSpec,
    TrainerAdapter,
    TrainingFailed,
    TrainingResult,
    UnknownJob,
    is_infrastructure,
)
from tunestream.trainers.rows import rows_of
from tunestream.trainers.task_adapter import TaskAdapter

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
