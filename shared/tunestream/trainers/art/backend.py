"""OpenPipe ART as a backend: in its training service, or on the trainer's machine."""

from __future__ import annotations

from typing import Final

from tunestream.trainers.art.adapter import ARTTrainerAdapter
from tunestream.trainers.art.config import ARTTrainerAdapterConfig
from tunestream.trainers.art.probe import check_service
from tunestream.trainers.art.settings import ARTSettings
from tunestream.trainers.art.worker import ARTWorkerHandle
from tunestream.trainers.backend import TrainerBackend
from tunestream.trainers.bridge import AdapterBackend
from tunestream.trainers.port import Backend, Start

__all__ = ["BACKEND"]


def _open(config: ARTTrainerAdapterConfig, artifacts: str) -> Backend:
    return AdapterBackend(ARTTrainerAdapter(config, artifacts=artifacts), ends_when_lost=True)


async def _check(config: ARTTrainerAdapterConfig) -> None:
    """Ask the training service; look for what the worker needs where it trains on this machine."""
    settings = ARTSettings()
    if config.backend.kind == "serverless":
        await check_service(config.backend, settings)
    else:
        ARTWorkerHandle(settings).check_installed()


BACKEND: Final = TrainerBackend(
    config=ARTTrainerAdapterConfig,
    open=_open,
    local=lambda config: config.backend.kind == "local",
    starts_from=lambda config: Start.HEAD if config.backend.kind == "local" else Start.LATEST,
    check=_check,
)
