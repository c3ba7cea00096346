"""Whether the backends that come with tunestream could train; nothing is changed, and no torch is loaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tunestream.config.run.trainers import (
    ARTTrainerAdapterConfig,
    NeMoCustomizerTrainerAdapterConfig,
    TRLTrainerConfig,
)
from tunestream.trainers.optional_packages import package_of
from tunestream.trainers.port import TrainingFailed

__all__ = ["check_art", "check_nemo", "check_trl"]

_MODEL: Final = "model.hf_model_ckpt"
# `name` or `owner/name`, as the Hugging Face hub has them.
_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


async def check_trl(config: TRLTrainerConfig) -> None:
    """Look for what the worker needs, and for the base model.

    Raises:
        TrainingFailed: when packages are missing, or the model can be none.
    """
    package_of("trl").WorkerHandle().check_installed()
    _check_model(config.model.hf_model_ckpt)


def _check_model(name: str) -> None:
    folder = Path(name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise TrainingFailed("model_missing", f"{name} has no config.json", key=_MODEL)
    if not folder.is_dir() and not _HUB_NAME.fullmatch(name):
        raise TrainingFailed(
            "model_missing",
            f"{name} is no folder of this machine and no name on the Hugging Face hub",
            key=_MODEL,
        )


async def check_art(config: ARTTrainerAdapterConfig) -> None:
    """Ask the training service; look for what the worker needs where it trains on this machine.

    Raises:
        TrainingFailed: when the service does not answer or refuses, or packages are missing.
    """
    art = package_of("art")
    settings = art.ARTSettings()
    if config.backend.kind == "serverless":
        await art.check_service(config.backend, settings)
    else:
        art.ARTWorkerHandle(settings).check_installed()


async def check_nemo(config: NeMoCustomizerTrainerAdapterConfig) -> None:
    """Ask the customizer and the data store.

    Raises:
        TrainingFailed: when one does not answer or refuses, or the extra ``nemo`` is not installed.
    """
    adapter = package_of("nemo").NeMoCustomizerTrainerAdapter(config)
    try:
        await adapter.check()
    finally:
        await adapter.close()
