"""A trajectory builder's configuration in the units of the hot path."""

from __future__ import annotations

from dataclasses import dataclass

from tunestream.config.run.durations import milliseconds
from tunestream.config.run.trajectory_builder import (
    ARTTrajectoryBuilderConfig,
    DPOTrajectoryBuilderConfig,
    TrajectoryBuilder,
)
from tunestream.domain.scoring.rules import ScoringRules
from tunestream.domain.turns.pairing import PairRules

__all__ = ["GroupRules", "pair_rules"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRules:
    """How turns (or groups of episodes) of a run are closed, and what is made of them.

    Attributes:
        idle_ms: a group closes so long after its latest member.
        memory_ms: a closed group's members are remembered so long.
        remembered: the most closed groups that are remembered whole.
        capacity: the most members of a group.
        pairing: how a turn's candidates are paired; None when episodes are collected, not turns.
        reward_from_score_diff: the reward of a pair, otherwise the chosen one's score.
        expanded: whether every pair of a group is spelt out on the wire.
        scoring: how turns wait for scores; None where they do not.
    """

    idle_ms: int
    memory_ms: int
    remembered: int
    capacity: int
    pairing: PairRules | None
    reward_from_score_diff: bool = True
    expanded: bool = False
    scoring: ScoringRules | None = None

    @classmethod
    def of(
        cls,
        config: TrajectoryBuilder,
        window_pairs: int | None = None,
        scoring: ScoringRules | None = None,
    ) -> GroupRules:
        """Translate a configuration.

        Args:
            config: how trajectories are built.
            window_pairs: of the run: the most pairs of a turn where ``config`` sets no number.
            scoring: how turns wait for scores.
        """
        if isinstance(config, ARTTrajectoryBuilderConfig):
            return cls(
                idle_ms=milliseconds(config.idle_timeout),
                memory_ms=milliseconds(config.group_memory),
                remembered=config.max_groups_remembered,
                capacity=config.num_generations,
                pairing=None,
            )
        return cls(
            idle_ms=milliseconds(config.turn_timeout),
            memory_ms=milliseconds(config.turn_memory),
            remembered=config.max_turns_remembered,
            capacity=config.max_candidates_per_turn,
            pairing=pair_rules(config, window_pairs),
            expanded=config.wire == "expanded",
            reward_from_score_diff=config.reward_from_score_diff,
            scoring=scoring,
        )


def pair_rules(config: DPOTrajectoryBuilderConfig, window_pairs: int | None = None) -> PairRules:
    """Return how a configuration pairs, with ``window_pairs`` as its most pairs where it sets no number."""
    most = config.max_pairs_per_turn
    if most is None and not config.nat_parity:
        most = window_pairs
    return PairRules(
        exhaustive=config.exhaustive_pairs,
        min_score_diff=config.min_score_diff,
        max_pairs=most,
        require_multiple=config.require_multiple_candidates,
        filtered=not config.nat_parity,
    )
