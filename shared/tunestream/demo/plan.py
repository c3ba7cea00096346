"""What a demo is asked for, where it runs, and how it fails."""

from __future__ import annotations

from dataclasses import dataclass

from tunestream.config.settings import KafkaSettings
from tunestream.demo.recipes import RECIPES, Quantization, Recipe
from tunestream.events.training import Objective

__all__ = ["DemoFailed", "DemoPlan", "DemoSite"]


class DemoFailed(RuntimeError):
    """A training job failed, or nothing happened for too long."""


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """What to learn by, and how long to play; a round is one full window.

    ``keep`` goes on after the last round.
    """

    seed: int = 0
    rounds: int = 8
    keep: bool = False
    objective: Objective = Objective.DPO
    quantize: Quantization | None = None

    @property
    def recipe(self) -> Recipe:
        """The objective's numbers."""
        return RECIPES[self.objective]


@dataclass(frozen=True, slots=True)
class DemoSite:
    """Where things are."""

    kafka: KafkaSettings
    policy_url: str
    run_id: str
