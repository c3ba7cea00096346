"""Asks a run's backend whether it can train, before anybody pays for candidates."""

from __future__ import annotations

import asyncio
from typing import Final

from tunestream.cli.errors import Failure, TryAgain
from tunestream.config.run.run import RunConfig
from tunestream.config.settings import StoreSettings
from tunestream.trainers import TrainingFailed, check_backend, is_infrastructure

__all__ = ["check_health"]

_DEADLINE: Final = 30.0  # seconds
_REMEDY: Final = "Remove the cause. Where only the trainer's machine can train: run apply --no-health-check"


def check_health(config: RunConfig) -> None:
    """Ask the backend of a run; nothing is changed.

    Raises:
        Failure: when it cannot train, with the reason.
        TryAgain: when it cannot be reached.
    """
    try:
        asyncio.run(_ask(config))
    except TrainingFailed as failure:
        kind = TryAgain if is_infrastructure(failure.code) else Failure
        message = f"run {config.run_id}: trainer {config.trainer.type} cannot train: {failure.message}"
        raise kind(message, remedy=_REMEDY) from failure
    except TimeoutError as error:
        message = f"run {config.run_id}: trainer {config.trainer.type} did not answer for {_DEADLINE:g} s"
        raise TryAgain(message, remedy=_REMEDY) from error


async def _ask(config: RunConfig) -> None:
    async with asyncio.timeout(_DEADLINE):
        await check_backend(config.trainer, StoreSettings().artifacts)
