"""Who scores what a run's candidates came without, and how long that may take."""

from __future__ import annotations

from dataclasses import dataclass

from tunestream.config.run.durations import milliseconds
from tunestream.config.run.run import RunConfig
from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig

__all__ = ["ScoringRules"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringRules:
    """How turns of a run wait for scores.

    Attributes:
        asks: whether the run's reward function scores them.
        waits: whether they wait at all; else a candidate without a score stays without.
        timeout_ms: a turn that nobody is asked about closes so long after it was complete.
        early_ms: a score waits so long for its candidate.
        most_bytes: of turns that nobody is asked about, for the run.
    """

    asks: bool
    waits: bool
    timeout_ms: int
    early_ms: int
    most_bytes: int

    @classmethod
    def of(cls, run: RunConfig) -> ScoringRules | None:
        """Translate a configuration; None for a run that collects episodes, which come with their reward."""
        builder = run.trajectory_builder
        if not isinstance(builder, DPOTrajectoryBuilderConfig):
            return None
        asks = run.reward_function is not None
        return cls(
            asks=asks,
            waits=asks or run.scores == "later",
            timeout_ms=milliseconds(builder.score_timeout),
            early_ms=milliseconds(builder.turn_timeout),
            most_bytes=builder.max_waiting_bytes,
        )
