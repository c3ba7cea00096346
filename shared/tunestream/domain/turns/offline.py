"""The pair builder without a broker: events of one run in, the groups of its turns out, in order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain, count
from typing import Any, Final

from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.domain.collector.normaliser import normalise_native
from tunestream.domain.effects import Effects, Spliced
from tunestream.domain.turns.core import PairBuilder, event_of
from tunestream.domain.turns.group_rules import GroupRules
from tunestream.domain.turns.turn_group import expanded_group
from tunestream.events.trajectories import TrajectoryGroup
from tunestream.events.ttc import (
    CandidateStep,
    EpisodeStep,
    ExampleEnd,
    Tick,
    TTCCandidate,
    TTCExampleEnd,
    TTCTurnEnd,
    TurnEnd,
)
from tunestream.events.turns import TurnStep

__all__ = ["OfflineBuilder", "RunEvent", "Summary"]

RunEvent = TTCCandidate | TTCTurnEnd | TTCExampleEnd | CandidateStep | TurnEnd | ExampleEnd

_VALIDATED: Final = (CandidateStep, TurnEnd, ExampleEnd)
_DIGEST: Final = "offline"
_END_OF_TIME: Final = 1 << 61
_FOR_EVER: Final = timedelta(days=36_500)


@dataclass(slots=True)
class Summary:
    """What became of the events.

    Attributes:
        lines: lines of a recording that were read.
        candidates: that counted.
        turns: that had a candidate.
        pairs: that were made.
        repeats: candidates that came again.
        skipped: pairs that were not made (and lone candidates), by reason.
        refused: candidates that did not count, by reason.
        dropped: what was left out of messages, by key.
    """

    lines: int = 0
    candidates: int = 0
    turns: int = 0
    pairs: int = 0
    repeats: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    def add(self, group: TrajectoryGroup) -> None:
        """Count a closed turn."""
        self.turns += 1
        self.candidates += len(group.scores)
        self.pairs += len(group.trajectories)
        self.skipped.update(group.skipped)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "dropped" or self.dropped}
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}


class OfflineBuilder:
    """Drives a pair builder over the events of one run.

    Groups come in the order in which examples first appeared, and within an example in that of its
    turns. A group waits until every example before its own has ended, so memory is bounded by what is
    open.

    Args:
        run_id: of all events.
        config: how candidates are paired.
        timeless: whether time-outs mean nothing: turns close at markers and at the end alone.
        summary: counts what becomes of the events; refusals are counted by the caller, who catches them.
    """

    def __init__(
        self,
        run_id: str,
        config: DPOTrajectoryBuilderConfig,
        *,
        timeless: bool = False,
        summary: Summary | None = None,
    ) -> None:
        if timeless:
            config = config.model_copy(update={"turn_timeout": _FOR_EVER, "turn_memory": _FOR_EVER})
        self.run_id = run_id
        self.summary = Summary() if summary is None else summary
        rules = GroupRules.of(config)
        self._builder = PairBuilder(lambda _run, _digest: rules)
        self._effects = Effects()
        self._clock = count()
        self._order = _OrderOfAppearance()

    def take(
        self, event: RunEvent, *, time: int | None = None, raw: bytes | None = None
    ) -> list[TrajectoryGroup]:
        """Take one event and return the groups that need wait no longer.

        Args:
            event: published, or validated.
            time: stream time, ms; by default the number of the event.
            raw: the event's bytes, by which a repeat is known; by default those of its JSON.

        Raises:
            Refused: when it breaks a rule; the run goes on.
            ValueError: when it is another run's.
        """
        if event.run_id != self.run_id:
            raise ValueError(f"an event of run {event.run_id!r} came with those of {self.run_id!r}")
        body = event if isinstance(event, _VALIDATED) else normalise_native(event, self.summary.dropped)
        self._handle(body, next(self._clock) if time is None else time, raw)
        return self._order.end(body.example_id) if isinstance(body, ExampleEnd) else []

    def finish(self) -> list[TrajectoryGroup]:
        """Close what is open and return all groups that are left."""
        self._handle(Tick(run_id=self.run_id), _END_OF_TIME, b"")
        return self._order.rest()

    def _handle(
        self,
        body: CandidateStep | TurnStep | TurnEnd | ExampleEnd | EpisodeStep | Tick,
        time: int,
        raw: bytes | None,
    ) -> None:
        if isinstance(body, CandidateStep | TurnStep):
            self._order.note(body.example_id, body.turn_id)
        effects = self._effects
        raw = body.to_json() if raw is None else raw
        try:
            self._builder.handle(event_of(body), time=time, config_digest=_DIGEST, raw=raw, effects=effects)
            self._builder.settle(effects)
        finally:  # what was due by then is closed, also when the event is refused
            if effects.outbound or effects.counts:
                self._settle()
            effects.changes.clear()

    def _settle(self) -> None:
        """Take over what the pair builder did."""
        effects = self._effects
        for output in effects.outbound:
            if isinstance(output.body, Spliced):
                group = expanded_group(output.body.value)
                self.summary.add(group)
                self._order.add(group)
        self.summary.repeats += effects.counts["duplicate"]
        effects.outbound.clear()
        effects.counts.clear()


class _OrderOfAppearance:
    """Holds groups by example and turn until every example before theirs has ended."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[str, list[TrajectoryGroup]]] = {}
        self._ended: set[str] = set()

    def note(self, example_id: str, turn_id: str) -> None:
        """Give a turn its place, unless it has one."""
        self._ended.discard(example_id)
        self._waiting.setdefault(example_id, {}).setdefault(turn_id, [])

    def add(self, group: TrajectoryGroup) -> None:
        """Put a turn's group in its place."""
        self._waiting[group.example_id][group.turn_id].append(group)

    def end(self, example_id: str) -> list[TrajectoryGroup]:
        """Note that nothing more comes of an example, and return what waits for nothing else now."""
        if example_id in self._waiting:
            self._ended.add(example_id)
        ready: list[TrajectoryGroup] = []
        while self._waiting and (first := next(iter(self._waiting))) in self._ended:
            self._ended.discard(first)
            ready += chain.from_iterable(self._waiting.pop(first).values())
        return ready

    def rest(self) -> list[TrajectoryGroup]:
        """Return everything that is left."""
        left = [group for turns in self._waiting.values() for groups in turns.values() for group in groups]
        self._waiting.clear()
        return left
