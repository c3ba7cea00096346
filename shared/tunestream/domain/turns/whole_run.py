"""All events of a run at once: the pair builder's rules where time means nothing."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import count
from typing import Any, Final

from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.domain.collector.normaliser import normalise_native
from tunestream.domain.effects import Effects, Refused
from tunestream.domain.turns.core import PairBuilder
from tunestream.events.trajectories import Trajectory, TrajectoryGroup
from tunestream.events.ttc import (
    CandidateStep,
    ExampleEnd,
    Tick,
    TTCCandidate,
    TTCExampleEnd,
    TTCTurnEnd,
    TurnEnd,
)

__all__ = ["RunEvent", "WholeRun", "by_example"]

RunEvent = TTCCandidate | TTCTurnEnd | TTCExampleEnd | CandidateStep | TurnEnd | ExampleEnd

_DIGEST: Final = "in-process"
_END_OF_TIME: Final = 1 << 61
_FOR_EVER: Final = timedelta(days=36_500)


class WholeRun:
    """Takes the events of one run, then gives its trajectories.

    Args:
        run_id: of all events.
        config: how candidates are paired.
    """

    def __init__(self, run_id: str, config: DPOTrajectoryBuilderConfig) -> None:
        self.run_id = run_id
        timeless = config.model_copy(update={"turn_timeout": _FOR_EVER, "turn_memory": _FOR_EVER})
        self._builder = PairBuilder(lambda _run, _digest: timeless)
        self._effects = Effects()
        self._time = count()
        self._places: dict[tuple[str, str], int] = {}
        self._refused: Counter[str] = Counter()

    def take(self, event: RunEvent) -> None:
        """Take one event.

        Raises:
            Refused: when it breaks a rule; it is counted and the run goes on.
            ValueError: when it is another run's.
        """
        if event.run_id != self.run_id:
            raise ValueError(f"an event of run {event.run_id!r} came with those of {self.run_id!r}")
        try:
            self._take(event)
        except Refused as refused:
            self._refused[refused.code] += 1
            raise

    def _take(self, event: RunEvent) -> None:
        body = event if isinstance(event, CandidateStep | TurnEnd | ExampleEnd) else normalise_native(event)
        time, raw = next(self._time), body.to_json()
        self._builder.handle(body, time=time, digest=_DIGEST, raw=raw, effects=self._effects)
        self._effects.changes.clear()
        if isinstance(body, CandidateStep):
            self._places.setdefault((body.example_id, body.turn_id), len(self._places))

    def close(self) -> list[TrajectoryGroup]:
        """Close what is open and return the group of every turn, in the order in which turns appeared."""
        end = Tick(run_id=self.run_id)
        self._builder.handle(end, time=_END_OF_TIME, digest=_DIGEST, raw=b"", effects=self._effects)
        bodies = (emission.body for emission in self._effects.emissions)
        groups = [body for body in bodies if isinstance(body, TrajectoryGroup)]
        return sorted(groups, key=lambda group: self._places[group.example_id, group.turn_id])

    def metrics(self, groups: list[TrajectoryGroup]) -> dict[str, Any]:
        """Count what became of the run, in the reference's names; ``refused`` and ``repeats`` are ours."""
        pairs = sum(len(group.trajectories) for group in groups)
        skipped = Counter({"single_candidate": 0, "score_diff": 0})
        for group in groups:
            skipped.update(group.skipped)
        return {
            "run_id": self.run_id,
            "total_examples": len(by_example(groups)),
            "total_turns": len(groups),
            "total_candidates": sum(len(group.scores) for group in groups),
            "total_pairs": pairs,
            "total_trajectories": pairs,
            **{f"skipped_{reason}": number for reason, number in skipped.items()},
            "refused": dict(self._refused),
            "repeats": self._effects.counts["duplicate"],
        }


def by_example(groups: list[TrajectoryGroup]) -> list[list[Trajectory]]:
    """Gather the trajectories of each example; examples without any are left out."""
    found: dict[str, list[Trajectory]] = {}
    for group in groups:
        if group.trajectories:
            found.setdefault(group.example_id, []).extend(group.trajectories)
    return list(found.values())
