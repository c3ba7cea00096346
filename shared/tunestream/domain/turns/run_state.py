"""What the pair builder knows of one run on one partition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tunestream.domain.turns.memory import Memory
from tunestream.domain.turns.open_episodes import OpenEpisodes
from tunestream.domain.turns.open_turn import OpenTurn

__all__ = ["EPISODES", "TURN", "AnyGroup", "GroupKey", "RunState"]

TURN: Final = "c"
EPISODES: Final = "e"

GroupKey = tuple[str, str, str, str]  # run, TURN or EPISODES, example, turn
AnyGroup = OpenTurn | OpenEpisodes


class RunState:
    """Open groups, and the memory of closed ones.

    Attributes:
        open: how many groups are open.
        turns: open turns by example and turn.
        episodes: open groups of episodes by example.
    """

    __slots__ = ("episodes", "memory", "open", "run_id", "turns")

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.open = 0
        self.turns: dict[str, dict[str, OpenTurn]] = {}
        self.episodes: dict[str, OpenEpisodes] = {}
        self.memory = Memory()

    @property
    def idle(self) -> bool:
        """Whether nothing is open and nothing remembered."""
        return not (self.open or self.memory.whole or self.memory.faded)

    def find(self, key: GroupKey) -> AnyGroup | None:
        """Return an open group."""
        _, kind, example, turn = key
        return self.turns.get(example, {}).get(turn) if kind == TURN else self.episodes.get(example)

    def add_turn(self, example: str, turn: str, group: OpenTurn) -> None:
        """Open a turn."""
        self.turns.setdefault(example, {})[turn] = group
        self.open += 1

    def add_episodes(self, example: str, group: OpenEpisodes) -> None:
        """Open a group of episodes."""
        self.episodes[example] = group
        self.open += 1

    def remove_turn(self, example: str, turn: str) -> OpenTurn:
        """Take an open turn out."""
        turns = self.turns[example]
        group = turns.pop(turn)
        if not turns:
            del self.turns[example]
        self.open -= 1
        return group

    def remove_episodes(self, example: str) -> OpenEpisodes:
        """Take an open group of episodes out."""
        self.open -= 1
        return self.episodes.pop(example)

    def groups(self) -> Iterator[AnyGroup]:
        """Return all open groups."""
        for turns in self.turns.values():
            yield from turns.values()
        yield from self.episodes.values()
