"""What the pair builder knows of one run on one partition."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final

from tunestream.domain.turns.memory import Memory
from tunestream.domain.turns.open_group import OpenGroup
from tunestream.events.keys import encode_key
from tunestream.events.ttc import CandidateStep, EpisodeStep

__all__ = ["EPISODES", "TURN", "AnyGroup", "GroupKey", "RunState"]

TURN: Final = "c"
EPISODES: Final = "e"

GroupKey = tuple[str, str, str]  # TURN or EPISODES, example, turn
AnyGroup = OpenGroup[CandidateStep] | OpenGroup[EpisodeStep]

_STALE_DEADLINES = 1024


class RunState:
    """Stream time, open groups by deadline, and the memory of closed ones.

    Attributes:
        now: stream time, ms; -1 before the first record.
        horizon: when the youngest turn closed that was forgotten for lack of room, ms; an event of an
            unknown turn that is not younger is late.
        turns: open turns by example and turn.
        episodes: open groups of episodes by example.
    """

    __slots__ = ("_deadlines", "episodes", "horizon", "memory", "now", "open", "run_id", "state_key", "turns")

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.now = -1
        self.horizon = -1
        self.open = 0
        self.turns: dict[str, dict[str, OpenGroup[CandidateStep]]] = {}
        self.episodes: dict[str, OpenGroup[EpisodeStep]] = {}
        self.memory = Memory()
        self.state_key = encode_key("run", run_id)
        self._deadlines: list[tuple[int, GroupKey]] = []

    def find(self, key: GroupKey) -> AnyGroup | None:
        """Return an open group."""
        kind, example, turn = key
        return self.turns.get(example, {}).get(turn) if kind == TURN else self.episodes.get(example)

    def add_turn(self, example: str, turn: str, group: OpenGroup[CandidateStep]) -> None:
        """Open a turn."""
        self.turns.setdefault(example, {})[turn] = group
        self._opened(group, (TURN, example, turn))

    def add_episodes(self, example: str, group: OpenGroup[EpisodeStep]) -> None:
        """Open a group of episodes."""
        self.episodes[example] = group
        self._opened(group, (EPISODES, example, ""))

    def remove_turn(self, example: str, turn: str) -> OpenGroup[CandidateStep]:
        """Take an open turn out."""
        turns = self.turns[example]
        group = turns.pop(turn)
        if not turns:
            del self.turns[example]
        self._closed()
        return group

    def remove_episodes(self, example: str) -> OpenGroup[EpisodeStep]:
        """Take an open group of episodes out."""
        self._closed()
        return self.episodes.pop(example)

    def groups(self) -> list[tuple[GroupKey, AnyGroup]]:
        """Return all open groups."""
        found: list[tuple[GroupKey, AnyGroup]] = [
            ((TURN, example, turn), group)
            for example, turns in self.turns.items()
            for turn, group in turns.items()
        ]
        found += (((EPISODES, example, ""), group) for example, group in self.episodes.items())
        return found

    def next_due(self, time: int) -> tuple[int, GroupKey] | None:
        """Return the first open group, by (deadline, key), whose deadline is not after ``time``.

        An entry of the queue stands at or before its group's deadline, so that a new member needs no
        entry: an entry that comes up early is put back at the deadline as it is then.
        """
        queue = self._deadlines
        while queue and queue[0][0] <= time:
            noted, key = queue[0]
            group = self.find(key)
            if group is None:
                heappop(queue)
            elif group.deadline > noted:
                heappop(queue)
                heappush(queue, (group.deadline, key))
            else:
                return group.deadline, key
        return None

    def _opened(self, group: AnyGroup, key: GroupKey) -> None:
        self.open += 1
        heappush(self._deadlines, (group.deadline, key))

    def _closed(self) -> None:
        self.open -= 1
        if len(self._deadlines) > 2 * self.open + _STALE_DEADLINES:
            self._deadlines = [(group.deadline, key) for key, group in self.groups()]
            heapify(self._deadlines)
