"""What a backend describes of itself: the value of an entry point of ``tunestream.trainer_backends``."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tunestream.config.run.trainers import TrainerSection
from tunestream.trainers.port import Backend, Start

__all__ = ["TrainerBackend"]

Config = TypeVar("Config", bound=TrainerSection)


def _by_content(config: TrainerSection) -> Hashable:
    return json.dumps(config.model_dump(mode="json"), sort_keys=True)


@dataclass(frozen=True, slots=True)
class TrainerBackend(Generic[Config]):
    """What stands behind a trainer's ``_type``.

    The module that holds it is imported by every service: what is heavy is imported by ``open``.

    Attributes:
        config: the trainer section of a run's file.
        open: makes the backend of a section and the artifact store's URL. It raises ValueError when the
            section can never be trained.
        local: jobs train on the trainer's machine: they run one at a time, and one that may not commit any
            more is stopped. Others run beside them, and go on where they run when the trainer dies. A
            function where it depends on the section.
        starts_from: from which weights a job starts. A function where it depends on the section.
        shares: sections for which this is equal share one backend; by default equal sections.
        check: raises :class:`~tunestream.trainers.TrainingFailed` when jobs could not run. It opens and
            changes nothing; by default a backend is opened and its ``check`` awaited.
        reference: the name in references and statuses of the backend's adapter, where the toolkit has
            another one than the ``_type``.
    """

    config: type[Config]
    open: Callable[[Config, str], Backend]
    local: bool | Callable[[Config], bool] = False
    starts_from: Start | Callable[[Config], Start] = Start.HEAD
    shares: Callable[[Config], Hashable] = _by_content
    check: Callable[[Config], Awaitable[None]] | None = None
    reference: str | None = None

    def is_local(self, config: Config) -> bool:
        """Return whether jobs of a section train on the trainer's machine."""
        return self.local(config) if callable(self.local) else self.local

    def start_of(self, config: Config) -> Start:
        """Return from which weights a section's jobs start."""
        return self.starts_from if isinstance(self.starts_from, Start) else self.starts_from(config)
