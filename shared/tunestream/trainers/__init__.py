"""Who trains: one port and its backends."""

from tunestream.trainers.backend import TrainerBackend
from tunestream.trainers.collection_rows import Rows, rows_of
from tunestream.trainers.harness import TrainerAdapter
from tunestream.trainers.harness_jobs import UnknownJob
from tunestream.trainers.port import (
    Backend,
    Checkpoint,
    JobSpec,
    LogLine,
    Progress,
    Report,
    Start,
    Stop,
    TrainingCanceled,
    TrainingFailed,
    TrainingResult,
    stop_of,
)
from tunestream.trainers.registry import check_backend, find_backend, open_backend
from tunestream.trainers.retry import Retry, is_infrastructure

__all__ = [
    "Backend",
    "Checkpoint",
    "JobSpec",
    "LogLine",
    "Progress",
    "Report",
    "Retry",
    "Rows",
    "Start",
    "Stop",
    "TrainerAdapter",
    "TrainerBackend",
    "TrainingCanceled",
    "TrainingFailed",
    "TrainingResult",
    "UnknownJob",
    "check_backend",
    "find_backend",
    "is_infrastructure",
    "open_backend",
    "rows_of",
    "stop_of",
]
