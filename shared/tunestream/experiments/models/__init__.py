"""The process that holds models: the only one of an experiment, beside the trainer's, with torch."""

from tunestream.experiments.models.process import ModelWorker, worker_or_own

__all__ = ["ModelWorker", "worker_or_own"]
