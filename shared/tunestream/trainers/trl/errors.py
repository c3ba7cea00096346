"""What went wrong, for the person who can do something about it."""

from __future__ import annotations

import torch

from tunestream.artifacts import ArtifactCorrupt, ArtifactMissing, ArtifactUnreachable
from tunestream.events.training import Objective
from tunestream.trainers.port import JobSpec, TrainingFailed
from tunestream.trainers.trl.config import TRLTrainerConfig

__all__ = ["explain"]


def explain(error: Exception, spec: JobSpec) -> TrainingFailed:
    """Name the reason for which a job ended in ``error``; ``internal`` for what we do not know."""
    if _is_out_of_memory(error):
        return TrainingFailed("out_of_memory", _smaller(error, spec))
    if isinstance(error, ArtifactCorrupt):
        return TrainingFailed(
            "artifact_corrupt", f"{error}; restore it from a copy, or cancel the job and train a later batch"
        )
    if isinstance(error, ArtifactMissing):
        return TrainingFailed(
            "artifact_missing",
            f"{error}; do all services have the same TUNESTREAM_ARTIFACTS ({spec.artifacts} here)?",
        )
    if isinstance(error, ArtifactUnreachable):
        return TrainingFailed("store_unreachable", str(error))
    return TrainingFailed("internal", f"{type(error).__name__}: {error} (the job's log has the traceback)")


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _smaller(error: Exception, spec: JobSpec) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if not isinstance(spec.config, TRLTrainerConfig):
        return f"the trainer ran out of memory: {text}"
    config = spec.config
    size = config.training.training_args.per_device_train_batch_size
    remedies = [f"lower per_device_train_batch_size (now {size}) and raise gradient_accumulation_steps"]
    limit, value = config.training.length_limit(config.objective or Objective.DPO)
    remedies.append(f"lower {limit} (now {value})")
    if config.lora is None:
        remedies.append("train an adapter (lora) instead of all weights")
    else:
        remedies.append(f"lower lora.r (now {config.lora.r})")
    if not config.model.quantize:
        remedies.append("set model.quantize: true")
    return f"the trainer ran out of memory: {'; '.join(remedies)} ({text})"
