"""What a run's configuration decides about its candidates, and how those that are left out are reported."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tunestream.config.run.run import RunConfig
from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.domain.collector.bounds import check_range
from tunestream.domain.effects import Refused

__all__ = ["CandidateRules", "Fault", "left_out"]

Fault = tuple[int, Refused]
"""The position of a candidate in its record, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class CandidateRules:
    """How candidates of a run are read.

    Attributes:
        scores_later: whether a candidate may come without its score.
        most: how many candidates a turn may have.
        keeps_answers: whether a prompt's last message stays where it is the candidate's own response.
    """

    scores_later: bool = False
    most: int = sys.maxsize
    keeps_answers: bool = False

    @classmethod
    def of(cls, config: RunConfig) -> CandidateRules:
        """Return the rules of a run."""
        later = config.scores == "later" or config.reward_function is not None
        builder = config.trajectory_builder
        if not isinstance(builder, DPOTrajectoryBuilderConfig):
            return cls(scores_later=later)
        return cls(later, builder.max_candidates_per_turn, builder.nat_parity)

    def check_score(self, field: str, score: float | None) -> None:
        """Make sure that a candidate has a score, unless its run's come later.

        Raises:
            Refused: when it has none, or one that is out of range.
        """
        if score is not None:
            check_range(field, score)
        elif not self.scores_later:
            raise Refused(
                "schema.missing",
                f"{field} is missing; send one, or set `scores: later` or a reward_function in the file of "
                "the run",
            )


def left_out(faults: Sequence[Fault], count: int) -> Refused:
    """Return the one refusal of the candidates of a record that are at fault; the others are taken.

    Args:
        faults: in the order of their positions, at least one; the code is the first one's.
        count: how many candidates the record has.
    """
    reasons = "; ".join(f"candidates.{at}: {fault.message}" for at, fault in faults)
    places = ", ".join(_ranges(at for at, _ in faults))
    return Refused(faults[0][1].code, f"left out of {count} candidates: {places}; {reasons}")


def _ranges(positions: Iterable[int]) -> list[str]:
    """Return ascending positions as texts such as ``3`` and ``5-9``."""
    found: list[tuple[int, int]] = []
    for at in positions:
        if found and found[-1][1] == at - 1:
            found[-1] = (found[-1][0], at)
        else:
            found.append((at, at))
    return [f"{first}" if first == last else f"{first}-{last}" for first, last in found]
