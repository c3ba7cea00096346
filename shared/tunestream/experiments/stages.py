"""The stages of an experiment, in their order, and what ends one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

__all__ = ["PARENTS", "Choice", "OnProgress", "Stage", "StageFailed"]

OnProgress = Callable[[int, int], None]
"""Called with the rows or steps that are done, and with how many there are."""


class Stage(StrEnum):
    """The stages, in order; ``baseline`` is the inference of the untuned model."""

    INGEST = "ingest"
    FINETUNE = "finetune"
    INFERENCE = "inference"
    BASELINE = "baseline"
    QA = "qa"


PARENTS: Final[Mapping[Stage, tuple[Stage, ...]]] = MappingProxyType(
    {
        Stage.INGEST: (),
        Stage.FINETUNE: (Stage.INGEST,),
        Stage.INFERENCE: (Stage.INGEST, Stage.FINETUNE),
        Stage.BASELINE: (Stage.INGEST,),
        Stage.QA: (Stage.INFERENCE, Stage.BASELINE),
    }
)
"""Stage → the stages whose outputs it reads."""


class StageFailed(Exception):
    """A stage cannot be run.

    Attributes:
        code: the reason's stable name, e.g. ``missing_column``.
        message: for people: what is wrong and what to do about it.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Choice:
    """Which stages to run.

    Attributes:
        only: this one; its parents must be complete.
        start: this one and those after it; its parents must be complete.
        force: these are run although they are complete.
    """

    only: Stage | None = None
    start: Stage | None = None
    force: frozenset[Stage] = frozenset()

    def reaches(self, stage: Stage) -> bool:
        """Return whether a stage is run or leads to one that is."""
        return self.only is None or stage in _ancestry(self.only)

    def takes(self, stage: Stage) -> bool:
        """Return whether a stage may be run."""
        if self.only is not None:
            return stage is self.only
        return self.start is None or list(Stage).index(stage) >= list(Stage).index(self.start)


def _ancestry(stage: Stage) -> set[Stage]:
    return {stage}.union(*(_ancestry(parent) for parent in PARENTS[stage]))
