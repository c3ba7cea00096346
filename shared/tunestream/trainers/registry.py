"""The backends that are installed, by the ``_type`` of a run's trainer section."""

from __future__ import annotations

from typing import Any

from tunestream.config.run.plugins import NotInstalled, load_trainer
from tunestream.config.run.trainers import TrainerSection, resolved
from tunestream.trainers.attempt import as_training_failure
from tunestream.trainers.backend import TrainerBackend
from tunestream.trainers.port import Backend, TrainingFailed

__all__ = ["check_backend", "find_backend", "open_backend"]


def find_backend(kind: str) -> TrainerBackend[Any]:
    """Return the backend of a ``_type``.

    Raises:
        NotInstalled: when there is none, or several distributions bring it.
    """
    found = load_trainer(kind)
    if not isinstance(found, TrainerBackend):
        raise NotInstalled(f"_type {kind!r} names no tunestream.trainers.TrainerBackend")
    return found


async def check_backend(config: TrainerSection, artifacts: str) -> None:
    """Ask a run's backend whether jobs could run; nothing is changed.

    Args:
        config: the run's trainer section; an opaque one is resolved.
        artifacts: the artifact store's URL.

    Raises:
        TrainingFailed: when they could not, with the reason and what to do about it.
    """
    try:
        backend, config = find_backend(config.type), resolved(config)
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
