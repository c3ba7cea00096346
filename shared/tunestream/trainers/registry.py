"""The backends that are installed, by the ``_type`` of a run's trainer section."""

from __future__ import annotations

from typing import Any

from tunestream.config.run.plugins import NotInstalled, load_trainer
from tunestream.config.run.trainers import TrainerSection, resolved
from tunestream.trainers.backend import TrainerBackend
from tunestream.trainers.port import TrainingFailed

__all__ = ["check_backend", "find_backend"]


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
    adapter = backend.adapter(config, artifacts)
    try:
        if not await adapter.is_healthy():
            raise TrainingFailed("unhealthy", f"the backend {config.type} says that it is not healthy")
    finally:
        await adapter.close()
