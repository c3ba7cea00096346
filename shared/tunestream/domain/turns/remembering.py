"""The memory of closed turns of all runs of a partition: how long, and how many."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from tunestream.domain.deadlines import Deadlines
from tunestream.domain.effects import Effects
from tunestream.domain.turns.group_rules import GroupRules
from tunestream.domain.turns.run_state import RunState
from tunestream.events.keys import encode_key

__all__ = ["MEMORY", "Remembering"]

MEMORY: Final = "closed"
"""First part of the state key of a closed turn."""

_WHOLE_A_PARTITION: Final = 100_000
_NAMES_A_PARTITION: Final = 2_000_000
_END: Final = 1 << 62


class Remembering:
    """Bounds the memories of a partition's runs.

    Args:
        runs: the partition's runs by id; shared with who adds them.
    """

    def __init__(self, runs: Mapping[str, RunState]) -> None:
        self._runs = runs
        self._whole = 0
        self._faded = 0
        self._unsettled: set[str] = set()
        self._since = 0
        self._forget_next = Deadlines[tuple[str]](self._until)
        self._fade_next = Deadlines[tuple[str]](self._oldest_whole)

    def restore(self, run: RunState, name: str, value: bytes) -> None:
        """Take back what is remembered of a turn, in any order; :meth:`settle` must follow."""
        run.memory.insert(bytes.fromhex(name), value)
        self._whole += 1
        self._unsettled.add(run.run_id)

    def settle(self, since: int) -> None:
        """Bring what was taken back in order.

        Args:
            since: no turn counts as closed before this stream time, ms.
        """
        self._since = max(self._since, since)
        for run_id in self._unsettled:
            faded = self._runs[run_id].memory.settle()
            self._whole -= faded
            self._faded += faded
            self._note(run_id)
        self._unsettled.clear()

    def add(
        self,
        run: RunState,
        closed: Mapping[bytes, Mapping[str, int]],
        at: int,
        rules: GroupRules,
        effects: Effects,
        *,
        of_content: bool = False,
    ) -> None:
        """Remember what was closed at stream time ``at``.

        Args:
            run: whose it was.
            closed: by name: fingerprints by member id.
            at: stream time, ms.
            rules: how long, and how many whole.
            effects: takes the state records.
            of_content: whether the fingerprints are those of contents, not of bodies.
        """
        for name, fingerprints in closed.items():
            until = at + rules.memory_ms
            record = run.memory.add(name, at, until, fingerprints, of_content=of_content)
            effects.changes[_memory_key(run.run_id, name)] = record
        self._whole += len(closed)
        if run.memory.whole == len(closed):  # else what is older goes first, and is noted
            self._note(run.run_id)
        while run.memory.whole > rules.remembered:
            self._fade(run, effects)
        while self._whole > _WHOLE_A_PARTITION and (oldest := self._fade_next.next_due(_END)):
            self._fade(self._runs[oldest[1][0]], effects)
        while self._faded > _NAMES_A_PARTITION and (oldest := self._forget_next.next_due(_END)):
            self._forget(self._runs[oldest[1][0]], effects)

    def forget_past(self, time: int, effects: Effects) -> list[RunState]:
        """Forget what is past its memory at stream time ``time``, and return whose it was."""
        found = []
        while (due := self._forget_next.next_due(time)) is not None:
            run = self._runs[due[1][0]]
            self._forget(run, effects)
            found.append(run)
        return found

    def _note(self, run_id: str) -> None:
        key = (run_id,)
        if (until := self._until(key)) is not None:
            self._forget_next.note(key, until)
        if (oldest := self._oldest_whole(key)) is not None:
            self._fade_next.note(key, oldest)

    def _until(self, key: tuple[str]) -> int | None:
        run = self._runs.get(key[0])
        oldest = None if run is None else run.memory.oldest()
        return None if oldest is None else max(oldest[0], self._since) + oldest[1] - oldest[0]

    def _oldest_whole(self, key: tuple[str]) -> int | None:
        run = self._runs.get(key[0])
        oldest = None if run is None else run.memory.oldest_whole()
        return None if oldest is None else oldest.at

    def _fade(self, run: RunState, effects: Effects) -> None:
        name, record = run.memory.fade()
        effects.put(_memory_key(run.run_id, name), record)
        self._whole -= 1
        self._faded += 1

    def _forget(self, run: RunState, effects: Effects) -> None:
        faded = run.memory.faded
        names = list(run.memory.forget())
        self._faded -= faded - run.memory.faded
        self._whole -= len(names) - (faded - run.memory.faded)
        for name in names:
            effects.delete(_memory_key(run.run_id, name))


def _memory_key(run_id: str, name: bytes) -> bytes:
    return _memory_prefix(run_id) + name.hex().encode()


@lru_cache(maxsize=256)
def _memory_prefix(run_id: str) -> bytes:
    return encode_key(MEMORY, run_id) + b"/"
