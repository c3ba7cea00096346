"""What a demo has shown, as one value that table, picture and page are drawn from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tunestream.demo.evaluation import Outcomes, Strength, paired_difference
from tunestream.domain.evaluation import Interval

__all__ = ["Activity", "DemoResults", "points"]


@dataclass(frozen=True, slots=True)
class Activity:
    """What the agents did; ``seconds`` from the first game to the last version's evaluation."""

    games: int
    turns: int
    pairs: int
    held_out_turns: int
    illegal: int
    seconds: float


@dataclass(frozen=True, slots=True)
class DemoResults:
    """The strengths of all versions that were served, in order, and games of the first and the last."""

    run_id: str
    seed: int
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
    def verdict(self) -> str:
        """The gain in one sentence."""
        word = "improved" if self.passed else "no measurable improvement"
        return f"{word}: optimal moves {points(self.gain)}"

    def document(self) -> dict[str, Any]:
        """Return the results for JSON, single boards left out."""
        return {
            "run_id": self.run_id,
            "seed": self.seed,
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
