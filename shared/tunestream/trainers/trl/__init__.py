"""Training on this machine with TRL. Torch is loaded by the worker process only."""

from tunestream.trainers.trl.backend import TRLBackend, TRLTrainerAdapter
from tunestream.trainers.worker.handle import Program, WorkerDied, WorkerHandle
from tunestream.trainers.worker.settings import WorkerSettings

__all__ = ["Program", "TRLBackend", "TRLTrainerAdapter", "WorkerDied", "WorkerHandle", "WorkerSettings"]
