"""The backends that there are, by the ``_type`` of a run's trainer section."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from tunestream.config.run.plugins import NotInstalled, load_trainer
from tunestream.config.run.trainers import (
    ARTTrainerAdapterConfig,
    NeMoCustomizerTrainerAdapterConfig,
    TrainerSection,
    TRLTrainerConfig,
)
from tunestream.trainers.backend import TrainerBackend
from tunestream.trainers.health import check_art, check_nemo, check_trl
from tunestream.trainers.optional_packages import package_of
from tunestream.trainers.port import TrainerAdapter, TrainingFailed

__all__ = ["check_backend", "find_backend"]


def find_backend(kind: str) -> TrainerBackend[Any]:
    """Return the backend of a ``_type``.

    Raises:
        NotInstalled: when there is none.
    """
    if kind in _OURS:
        return _OURS[kind]
    found = load_trainer(kind)
    if not isinstance(found, TrainerBackend):
        raise NotInstalled(f"_type {kind!r} names no tunestream.trainers.TrainerBackend")
    return found


async def check_backend(config: TrainerSection, artifacts: str) -> None:
    """Ask a run's backend whether jobs could run; nothing is changed.

    Args:
        config: the run's trainer section.
        artifacts: the artifact store's URL.

    Raises:
        TrainingFailed: when they could not, with the reason and what to do about it.
    """
    try:
        backend = find_backend(config.type)
    except NotInstalled as missing:
        raise TrainingFailed("no_backend", str(missing)) from missing
    if backend.check is not None:
        await backend.check(config)
        return
    adapter = backend.adapter(config, artifacts)
    try:
        if not await adapter.is_healthy():
            raise TrainingFailed("unhealthy", f"the backend {config.type} says that it is not healthy")
    finally:
        await adapter.close()


def _trl(config: TRLTrainerConfig, artifacts: str) -> TrainerAdapter:
    adapter: TrainerAdapter = package_of("trl").TRLTrainerAdapter(config, artifacts=artifacts)
    return adapter


def _art(config: ARTTrainerAdapterConfig, artifacts: str) -> TrainerAdapter:
    adapter: TrainerAdapter = package_of("art").ARTTrainerAdapter(config, artifacts=artifacts)
    return adapter


def _nemo(config: NeMoCustomizerTrainerAdapterConfig, artifacts: str) -> TrainerAdapter:
    del artifacts  # models stay in the service
    adapter: TrainerAdapter = package_of("nemo").NeMoCustomizerTrainerAdapter(config)
    return adapter


_OURS: Final[Mapping[str, TrainerBackend[Any]]] = MappingProxyType(
    {
        "trl": TrainerBackend(
            config=TRLTrainerConfig,
            adapter=_trl,
            local=True,
            poll_seconds=0.1,
            shares=lambda _: "the machine's one worker",
            check=check_trl,
        ),
        "openpipe_art_trainer_adapter": TrainerBackend(
            config=ARTTrainerAdapterConfig,
            adapter=_art,
            local=lambda config: config.backend.kind == "local",
            check=check_art,
        ),
        "nemo_customizer_trainer_adapter": TrainerBackend(
            config=NeMoCustomizerTrainerAdapterConfig,
            adapter=_nemo,
            shares=lambda config: (
                config.entity_host,
                config.datastore_host,
                config.namespace,
                config.create_namespace_if_missing,
                config.api_key_env,
                config.hf_token_env,
            ),
            check=check_nemo,
        ),
    }
)
