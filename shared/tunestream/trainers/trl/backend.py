"""TRL as a backend: training on the trainer's machine, in a warm worker process that loads torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tunestream.trainers.backend import TrainerBackend
from tunestream.trainers.port import TrainerAdapter, TrainingFailed
from tunestream.trainers.trl.adapter import TRLTrainerAdapter
from tunestream.trainers.trl.config import TRLTrainerConfig
from tunestream.trainers.trl.worker import TRLWorkerHandle

__all__ = ["BACKEND"]

# `name` or `owner/name`, as the Hugging Face hub has them.
_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def _adapter(config: TRLTrainerConfig, artifacts: str) -> TrainerAdapter:
    return TRLTrainerAdapter(config, artifacts=artifacts)


async def _check(config: TRLTrainerConfig) -> None:
    """Look for what the worker needs, and for the base model."""
    TRLWorkerHandle().check_installed()
    _check_model(config.model.hf_model_ckpt)


def _check_model(name: str) -> None:
    folder = Path(name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise TrainingFailed("model_missing", f"trainer.model.hf_model_ckpt: {name} has no config.json")
    if not folder.is_dir() and not _HUB_NAME.fullmatch(name):
        raise TrainingFailed(
            "model_missing",
            f"trainer.model.hf_model_ckpt: {name} is no folder of this machine and no name on the "
            "Hugging Face hub",
        )


BACKEND: Final = TrainerBackend(
    config=TRLTrainerConfig,
    adapter=_adapter,
    local=True,
    poll_seconds=0.1,
    shares=lambda _: "the machine's one worker",
    check=_check,
)
