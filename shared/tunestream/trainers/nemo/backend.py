"""The NeMo Customizer as a backend; what the extra ``nemo`` installs is imported by the first job."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Final

from tunestream.trainers.backend import TrainerBackend
from tunestream.trainers.bridge import AdapterBackend
from tunestream.trainers.nemo.config import NeMoCustomizerTrainerAdapterConfig
from tunestream.trainers.port import Backend, TrainingFailed

if TYPE_CHECKING:
    from tunestream.trainers.nemo.adapter import NeMoCustomizerTrainerAdapter

__all__ = ["BACKEND"]


def _open(config: NeMoCustomizerTrainerAdapterConfig, artifacts: str) -> Backend:
    del artifacts  # models stay in the service
    return AdapterBackend(_of(config), ends_when_lost=False)


def _of(config: NeMoCustomizerTrainerAdapterConfig) -> NeMoCustomizerTrainerAdapter:
    try:
        from tunestream.trainers.nemo.adapter import NeMoCustomizerTrainerAdapter  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise TrainingFailed(
            "missing_dependency", f"the nemo trainer needs {error.name}: pip install 'tunestream[nemo]'"
        ) from error
    return NeMoCustomizerTrainerAdapter(config)


async def _check(config: NeMoCustomizerTrainerAdapterConfig) -> None:
    """Ask the customizer and the data store."""
    adapter = _of(config)
    try:
        await adapter.check()
    finally:
        await adapter.close()


def _shares(config: NeMoCustomizerTrainerAdapterConfig) -> Hashable:
    return (
        config.entity_host,
        config.datastore_host,
        config.namespace,
        config.create_namespace_if_missing,
        config.api_key_env,
        config.hf_token_env,
    )


BACKEND: Final = TrainerBackend(
    config=NeMoCustomizerTrainerAdapterConfig, open=_open, shares=_shares, check=_check
)
