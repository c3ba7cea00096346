"""How the demo learns by each objective: what agents publish, how much is a window, how it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from tunestream.events.training import Objective

__all__ = ["MIN_SCORE_DIFF", "RECIPES", "Quantization", "Recipe"]

MIN_SCORE_DIFF: Final = 0.01
_MAX_TOKENS: Final = 64


class Quantization(StrEnum):
    """How the base model's weights are loaded for QLoRA."""

    NF4 = "nf4"
    INT8 = "int8"

    @property
    def section(self) -> dict[str, Any]:
        """The ``bitsandbytes`` section of the model's configuration."""
        return {"load_in_8bit": True} if self is Quantization.INT8 else {"bnb_4bit_quant_type": "nf4"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """One objective's numbers, chosen by measurement on seeds that docs/training.md does not quote.

    Attributes:
        objective: what the jobs optimise.
        builder: the run's ``trajectory_builder`` section.
        unit: what a trajectory is, for people, in the plural.
        answers: answers that agents draw on each board.
        window: trajectories of a training batch, held-out ones included.
        arguments: the objective's own arguments.
        learning_rate: of every job, constant.
    """

    objective: Objective
    builder: Mapping[str, Any]
    unit: str
    answers: int
    window: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float = 3e-3

    @property
    def plays_episodes(self) -> bool:
        """Whether agents publish episodes instead of the candidates of a turn."""
        return bool(self.builder["_type"] == "openpipe_art_traj_builder")

    @property
    def training(self) -> dict[str, Any]:
        """The objective's section of the training arguments, under its name."""
        limit = "max_seq_length" if self.objective is Objective.SFT else "max_length"
        return {f"{self.objective}_args": {limit: _MAX_TOKENS, **self.arguments}}


_PAIRS: Final = {
    "_type": "dpo_traj_builder",
    "exhaustive_pairs": False,
    "min_score_diff": MIN_SCORE_DIFF,
}
_GROUP: Final = 8

RECIPES: Final[Mapping[Objective, Recipe]] = MappingProxyType(
    {
        Objective.DPO: Recipe(
            Objective.DPO,
            _PAIRS,
            "preference pairs",
            answers=4,
            window=384,
            # The second loss keeps the chosen answer likely. By the first alone both answers of a pair may
            # become unlikely, for the good of cells that are taken.
            arguments={"beta": 0.5, "loss_type": ["sigmoid", "sft"], "loss_weights": [0.5, 1.0]},
        ),
        Objective.GRPO: Recipe(
            Objective.GRPO,
            {"_type": "openpipe_art_traj_builder", "num_generations": _GROUP, "idle_timeout": "30s"},
            "episodes",
            answers=_GROUP,
            window=1024,
        ),
        Objective.SFT: Recipe(Objective.SFT, _PAIRS, "preference pairs", answers=4, window=384),
        Objective.KTO: Recipe(
            Objective.KTO, _PAIRS, "preference pairs", answers=4, window=384, arguments={"beta": 0.5}
        ),
    }
)
