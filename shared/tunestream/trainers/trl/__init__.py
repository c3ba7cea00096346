"""Training on this machine with TRL. Torch is loaded by the worker process only."""

from tunestream.trainers.trl.adapter import TRLTrainerAdapter
from tunestream.trainers.worker.handle import Program, WorkerDied, WorkerHandle
from tunestream.trainers.worker.settings import WorkerSettings

__all__ = ["Program", "TRLTrainerAdapter", "WorkerDied", "WorkerHandle", "WorkerSettings"]
