"""What a backend says about itself: the value of an entry point of ``tunestream.trainer_backends``."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tunestream.config.run.trainers import TrainerSection
from tunestream.trainers.port import TrainerAdapter

__all__ = ["TrainerBackend"]

Config = TypeVar("Config", bound=TrainerSection)


def _by_content(config: TrainerSection) -> Hashable:
    return json.dumps(config.model_dump(mode="json"), sort_keys=True)


@dataclass(frozen=True, slots=True)
class TrainerBackend(Generic[Config]):
    """What stands behind a trainer's ``_type``.

    The module that holds it is imported by every service: what is heavy is imported by ``adapter``.

    Attributes:
        config: the trainer section of a run's file.
        adapter: makes an adapter of a section and the artifact store's URL.
        local: jobs train on the trainer's machine: they run one at a time, and one that may not commit any
            more is stopped. Others run beside them, and go on where they run when the trainer dies. Where
            it depends on the section: says whether.
        poll_seconds: between two looks at a job.
        shares: sections for which this is equal have one adapter; by default equal sections.
        check: raises :class:`~tunestream.trainers.TrainingFailed` when jobs could not run, without changing
            anything; by default the adapter is asked whether it is healthy.
    """

    config: type[Config]
    adapter: Callable[[Config, str], TrainerAdapter]
    local: bool | Callable[[Config], bool] = False
    poll_seconds: float = 1.0
    shares: Callable[[Config], Hashable] = _by_content
    check: Callable[[Config], Awaitable[None]] | None = None

    def is_local(self, config: Config) -> bool:
        """Tell whether jobs of a section train on the trainer's machine."""
        return self.local(config) if callable(self.local) else self.local
