"""The pair builder without a broker: events of one run in, its turns with their pairs out, in order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain, count
from typing import Any, Final

from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.domain.collector.normaliser import normalise_native
from tunestream.domain.effects import Effects
from tunestream.domain.turns.closed_turns import ClosedTurn
from tunestream.domain.turns.core import BuilderEvent, PairBuilder, event_of
from tunestream.domain.turns.group_rules import GroupRules
from tunestream.domain.turns.turn_group import TurnGroup
from tunestream.events.ttc import (
    CandidateStep,
    ExampleEnd,
    Tick,
    TTCCandidate,
    TTCExampleEnd,
    TTCTurnEnd,
    TurnEnd,
)
from tunestream.events.turns import TurnStep
from tunestream.events.views.candidates import TurnView

__all__ = ["OfflineBuilder", "RunEvent", "Summary"]

RunEvent = TTCCandidate | TTCTurnEnd | TTCExampleEnd | CandidateStep | TurnStep | TurnEnd | ExampleEnd

_VALIDATED: Final = (CandidateStep, TurnStep, TurnEnd, ExampleEnd)
_ENDS: Final = (TTCExampleEnd, ExampleEnd)
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

    def add(self, turn: ClosedTurn) -> None:
        """Count a closed turn."""
        self.turns += 1
        self.candidates += turn.candidates
        self.pairs += turn.pairs
        self.skipped.update(turn.skipped)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "dropped" or self.dropped}
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}


class OfflineBuilder:
    """Drives a pair builder over the events of one run.

    Turns come in the order in which examples first appeared, and within an example in that in which they
    did. A turn waits until every example before its own has ended, so memory is bounded by what is
    open.

    Args:
        run_id: of all events.
        config: how candidates are paired.
        timeless: whether time-outs mean nothing: turns close at markers and at the end alone.
        summary: counts what becomes of the events; refusals are counted by the caller, who catches them.
        window_pairs: the most pairs of a turn where ``config`` sets no number; None for all.

    Attributes:
        rules: by which turns are closed and paired.
    """

    def __init__(
        self,
        run_id: str,
        config: DPOTrajectoryBuilderConfig,
        *,
        timeless: bool = False,
        summary: Summary | None = None,
        window_pairs: int | None = None,
    ) -> None:
        if timeless:
            config = config.model_copy(update={"turn_timeout": _FOR_EVER, "turn_memory": _FOR_EVER})
        self.run_id = run_id
        self.summary = Summary() if summary is None else summary
        self.rules = rules = GroupRules.of(config, window_pairs)
        self._builder = PairBuilder(lambda _run, _digest: rules, take_group=self._close)
        self._effects = Effects()
        self._clock = count()
        self._order = _OrderOfAppearance()

    def is_new(self, example_id: str, turn_id: str) -> bool:
        """Return whether no candidate of a turn came, as far as is remembered."""
        return not self._builder.knows(self.run_id, example_id, turn_id)

    def take(self, event: RunEvent | TurnView, *, time: int | None = None) -> list[ClosedTurn]:
        """Take one event and return the turns that need wait no longer.

        Args:
            event: published, or validated.
            time: stream time, ms; by default the number of the event.

        Raises:
            Refused: when it breaks a rule; the run goes on.
            ValueError: when it is another run's.
        """
        if event.run_id != self.run_id:
            raise ValueError(f"an event of run {event.run_id!r} came with those of {self.run_id!r}")
        self._handle(self._validated(event), next(self._clock) if time is None else time)
        return self._order.end(event.example_id) if isinstance(event, _ENDS) else []

    def finish(self) -> list[ClosedTurn]:
        """Close what is open and return all turns that are left."""
        self._handle(Tick(run_id=self.run_id), _END_OF_TIME)
        return self._order.rest()

    def _validated(self, event: RunEvent | TurnView) -> BuilderEvent:
        if isinstance(event, TurnView):
            return event
        body = event if isinstance(event, _VALIDATED) else normalise_native(event, self.summary.dropped)
        return event_of(body)

    def _handle(self, event: BuilderEvent, time: int) -> None:
        if isinstance(event, TurnView):
            self._order.note(event.example_id, event.turn_id)
        effects = self._effects
        try:
            self._builder.handle(event, time=time, config_digest=_DIGEST, raw=b"", effects=effects)
        finally:  # what was due by then is closed, also when the event is refused
            if effects.counts:
                self.summary.repeats += effects.counts["duplicate"]
                effects.counts.clear()
            effects.outbound.clear()
            effects.changes.clear()

    def _close(self, group: TurnGroup) -> None:
        turn = ClosedTurn(group)
        self.summary.add(turn)
        self._order.add(turn)


class _OrderOfAppearance:
    """Holds closed turns by example and turn until every example before theirs has ended."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[str, list[ClosedTurn]]] = {}
        self._ended: set[str] = set()

    def note(self, example_id: str, turn_id: str) -> None:
        """Give a turn its place, unless it has one."""
        self._ended.discard(example_id)
        self._waiting.setdefault(example_id, {}).setdefault(turn_id, [])

    def add(self, turn: ClosedTurn) -> None:
        """Put a turn that was closed in its place."""
        self._waiting[turn.example_id][turn.turn_id].append(turn)

    def end(self, example_id: str) -> list[ClosedTurn]:
        """Note that nothing more comes of an example, and return what waits for nothing else now."""
        if example_id in self._waiting:
            self._ended.add(example_id)
        ready: list[ClosedTurn] = []
        while self._waiting and (first := next(iter(self._waiting))) in self._ended:
            self._ended.discard(first)
            ready += chain.from_iterable(self._waiting.pop(first).values())
        return ready

    def rest(self) -> list[ClosedTurn]:
        """Return everything that is left."""
        left = [turn for turns in self._waiting.values() for closed in turns.values() for turn in closed]
        self._waiting.clear()
        return left
