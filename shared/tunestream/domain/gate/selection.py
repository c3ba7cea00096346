"""What a curriculum strategy is given, what it returns, and what it has to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from tunestream.config.run.curriculum import CurriculumSection

__all__ = ["CurriculumStrategy", "Epoch", "Selection", "State"]

State = Mapping[str, Any]
"""JSON values; what a strategy remembers from epoch to epoch. Empty before the first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """The groups of one window, in order of arrival.

    Attributes:
        number: of the window within (run, configuration), from 0.
        rewards: of each group, by which it is ranked: its candidates' scores, or its episodes' rewards.
        sizes: how many trajectories each group has.
        rng: the epoch's source of chance; the same for the same run, configuration, epoch and seed.
    """

    number: int
    rewards: Sequence[Sequence[float]]
    sizes: Sequence[int]
    rng: Random


@dataclass(frozen=True, slots=True)
class Selection:
    """What an epoch trains on.

    Attributes:
        groups: positions of the selected groups in the epoch's, in the order of training.
        state: after this epoch.
        dropped: how many groups were left out, by reason; those without one count as ``strategy``.
        left_out: positions of the groups that were left out, by reason, as far as the strategy names them.
        within: of the only selected group: the positions of the trajectories that were drawn; None for all.
    """

    groups: Sequence[int]
    state: State
    dropped: Mapping[str, int] = field(default_factory=dict)
    within: Sequence[int] | None = None
    left_out: Mapping[str, Sequence[int]] = field(default_factory=dict)


class CurriculumStrategy(Protocol):
    """What an entry point of ``tunestream.curriculum_strategies`` names.

    It must be pure: the same arguments give the same selection, on any machine and after any restart.
    """

    @property
    def config(self) -> type[CurriculumSection]:
        """The section of a run's file that chooses it by ``_type``."""

    def select(self, epoch: Epoch, state: State, config: Any) -> Selection:
        """Select the groups of one epoch.

        Args:
            epoch: its groups.
            state: that the epoch before returned; empty before the first one.
            config: of the run, an instance of :attr:`config`.
        """
