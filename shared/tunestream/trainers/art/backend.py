"""OpenPipe ART as a backend: in its training service, or on the trainer's machine."""

from __future__ import annotations

from typing import Final

from tunestream.trainers.art.adapter import ARTTrainerAdapter
from tunestream.trainers.art.config import ARTTrainerAdapterConfig
from tunestream.trainers.art.probe import check_service
from tunestream.trainers.art.settings import ARTSettings
from tunestream.trainers.art.worker import ARTWorkerHandle
from tunestream.trainers.backend import TrainerBackend
from tunestream.trainers.port import TrainerAdapter

__all__ = ["BACKEND"]


def _adapter(config: ARTTrainerAdapterConfig, artifacts: str) -> TrainerAdapter:
    return ARTTrainerAdapter(config, artifacts=artifacts)


async def _check(config: ARTTrainerAdapterConfig) -> None:
    """Ask the training service; look for what the worker needs where it trains on this machine."""
    settings = ARTSettings()
    if config.backend.kind == "serverless":
        await check_service(config.backend, settings)
    else:
        ARTWorkerHandle(settings).check_installed()


BACKEND: Final = TrainerBackend(
    config=ARTTrainerAdapterConfig,
    adapter=_adapter,
    local=lambda config: config.backend.kind == "local",
    check=_check,
)
