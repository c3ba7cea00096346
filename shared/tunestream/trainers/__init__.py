"""Who trains: one protocol and its backends."""

from tunestream.trainers.base import (
    JobSpec,
    TrainerAdapter,
    TrainingFailed,
    TrainingResult,
    UnknownJob,
)

__all__ = ["JobSpec", "TrainerAdapter", "TrainingFailed", "TrainingResult", "UnknownJob"]
