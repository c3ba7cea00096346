"""What a demo has shown, as one value that table, picture and page are drawn from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tunestream.demo.evaluation import Outcomes, Strength, paired_difference
from tunestream.demo.recipes import Quantization
from tunestream.domain.models.evaluation import Interval
from tunestream.events.training import Objective

__all__ = ["Activity", "DemoResults", "points"]


@dataclass(frozen=True, slots=True)
class Activity:
    """What the agents did; ``seconds`` from the first game to the last version's evaluation.

    ``trajectories`` are those that came of the published turns.
    """

    games: int
    turns: int
    trajectories: int
    held_out_turns: int
    illegal: int
    seconds: float


@dataclass(frozen=True, slots=True)
class DemoResults:
    """The strengths of all versions that were served, in order, and games of the first and the last.

    ``unit`` is what a trajectory is, for people, in the plural.
    """

    run_id: str
    seed: int
    objective: Objective
    quantization: Quantization | None
    unit: str
    strengths: tuple[Strength, ...]
    before: Outcomes
    after: Outcomes
    activity: Activity

    @property
    def gain(self) -> Interval:
        """The last version's rate of optimal moves minus the first's, paired."""
        return paired_difference(self.strengths[0], self.strengths[-1])

    @property
    def passed(self) -> bool:
        """Whether the model has measurably improved: the gain's interval is above 0."""
        return self.gain.low > 0

    @property
    def method(self) -> str:
        """By what the model has learnt, for people."""
        adapter = "LoRA" if self.quantization is None else f"QLoRA {self.quantization}"
        return f"{self.objective}, {adapter}"

    @property
    def verdict(self) -> str:
        """The gain in one sentence."""
        word = "improved" if self.passed else "no measurable improvement"
        return f"{word} by {self.method}: optimal moves {points(self.gain)}"

    def document(self) -> dict[str, Any]:
        """Return the results for JSON, single boards left out."""
        return {
            "run_id": self.run_id,
            "seed": self.seed,
            "objective": self.objective.value,
            "quantization": None if self.quantization is None else self.quantization.value,
            "passed": self.passed,
            "gain": asdict(self.gain),
            "versions": [_version(strength) for strength in self.strengths],
            "before": asdict(self.before),
            "after": asdict(self.after),
            "activity": asdict(self.activity),
        }


def points(gain: Interval) -> str:
    """Write a difference of rates in percentage points."""
    mean, low, high = (100 * value for value in (gain.mean, gain.low, gain.high))
    return f"{mean:+.1f} points (95 % interval {low:+.1f} to {high:+.1f})"


def _version(strength: Strength) -> dict[str, Any]:
    return {
        "number": strength.number,
        "version": strength.version,
        "optimal": asdict(strength.interval),
        "illegal": strength.illegal,
        "boards": len(strength.optimal),
    }
