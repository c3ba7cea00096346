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

__all__ = [
    "JobSpec",
    "TrainerAdapter",
    "TrainerBackend",
    "TrainingFailed",
    "TrainingResult",
    "UnknownJob",
    "check_backend",
    "find_backend",
    "is_infrastructure",
]
