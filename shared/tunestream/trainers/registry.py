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
from tunestream.trainers.attempt import as_training_failure
from tunestream.trainers.backend import TrainerBackend
from tunestream.trainers.bridge import AdapterBackend
from tunestream.trainers.health import check_art, check_nemo, check_trl
from tunestream.trainers.optional_packages import package_of
from tunestream.trainers.port import Backend, Start, TrainingFailed

__all__ = ["check_backend", "find_backend", "open_backend"]


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
    with as_training_failure():
        opened = open_backend(backend, config, artifacts)
        try:
            await opened.check()
        finally:
            await opened.close()


def open_backend(backend: TrainerBackend[Any], config: TrainerSection, artifacts: str) -> Backend:
    """Open a backend.

    Raises:
        TrainingFailed: when it cannot be opened, e.g. what it needs is not installed.
    """
    with as_training_failure():
        try:
            return backend.open(config, artifacts)
        except ValueError as error:
            raise TrainingFailed("refused", f"the backend refuses the job: {error}") from error


def _trl(config: TRLTrainerConfig, artifacts: str) -> Backend:
    del config, artifacts  # each job brings its own
    backend: Backend = package_of("trl").TRLBackend()
    return backend


def _art(config: ARTTrainerAdapterConfig, artifacts: str) -> Backend:
    adapter = package_of("art").ARTTrainerAdapter(config, artifacts=artifacts)
    return AdapterBackend(adapter, ends_when_lost=True)


def _nemo(config: NeMoCustomizerTrainerAdapterConfig, artifacts: str) -> Backend:
    del artifacts  # models stay in the service
    adapter = package_of("nemo").NeMoCustomizerTrainerAdapter(config)
    return AdapterBackend(adapter, ends_when_lost=False)


_OURS: Final[Mapping[str, TrainerBackend[Any]]] = MappingProxyType(
    {
        "trl": TrainerBackend(
            config=TRLTrainerConfig,
            open=_trl,
            local=True,
            shares=lambda _: "the machine's one worker",
            check=check_trl,
        ),
        "openpipe_art_trainer_adapter": TrainerBackend(
            config=ARTTrainerAdapterConfig,
            open=_art,
            local=lambda config: config.backend.kind == "local",
            starts_from=lambda config: Start.HEAD if config.backend.kind == "local" else Start.LATEST,
            check=check_art,
        ),
        "nemo_customizer_trainer_adapter": TrainerBackend(
            config=NeMoCustomizerTrainerAdapterConfig,
            open=_nemo,
            starts_from=Start.BASE,
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
