"""Which method trains which objective."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from tunestream.events.training import Objective
from tunestream.trainers.port import TrainingFailed
from tunestream.trainers.trl.dpo import DPO
from tunestream.trainers.trl.grpo import GRPO
from tunestream.trainers.trl.kto import KTO
from tunestream.trainers.trl.method import Method
from tunestream.trainers.trl.sft import SFT

__all__ = ["find_method"]

_METHODS: Final[Mapping[Objective, Method[Any]]] = MappingProxyType(
    {Objective.DPO: DPO(), Objective.SFT: SFT(), Objective.KTO: KTO(), Objective.GRPO: GRPO()}
)


def find_method(objective: Objective) -> Method[Any]:
    """Return what trains an objective.

    Raises:
        TrainingFailed: when nothing here does.
    """
    if objective not in _METHODS:
        known = ", ".join(_METHODS)
        raise TrainingFailed("unknown_objective", f"{objective} is none of {known}", key="objective")
    return _METHODS[objective]
