"""What the pair builder keeps of one partition: clock, runs and rules, and how it all comes back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Final
from zlib import crc32

from tunestream.domain.deadlines import Deadlines
from tunestream.domain.effects import Effects
from tunestream.domain.scoring.asked import ASKED
from tunestream.domain.scoring.kept import KEPT
from tunestream.domain.turns.group_rules import GroupRules
from tunestream.domain.turns.open_episodes import OpenEpisodes
from tunestream.domain.turns.open_turn import OpenTurn
from tunestream.domain.turns.remembering import MEMORY, Remembering
from tunestream.domain.turns.run_state import EPISODES, TURN, AnyGroup, GroupKey, RunState
from tunestream.events.keys import decode_key, encode_key
from tunestream.events.ttc import EpisodeStep

__all__ = ["PartitionState", "configuration_of", "example_prefixes"]

# Earlier releases read it as the clock of one more run.
_CLOCK_KEY: Final = b"run/*"
_NEVER: Final = sys.maxsize
_MEMBERS: Final = frozenset({TURN.encode(), EPISODES.encode()})
_WAITING: Final = frozenset({KEPT.encode(), ASKED.encode()})


class PartitionState:
    """The clock and the runs of one partition.

    State keys: ``c|e/run/example/=turn/digest/arrival number/stream time`` holds bodies as they came, of
    the members from that number on; ``closed/run/name`` a closed turn's memory; ``run/*`` the clock. Earlier
    releases kept a clock for each run, which agents moved: the state of such a release counts from the first
    record after it.

    Args:
        config: (run id, config digest) → the rules of its groups; raises KeyError when unknown.
        partition: its number.

    Attributes:
        partition: its number.
        now: stream time, ms; -1 before the first record.
        memory: of closed turns.
    """

    def __init__(self, config: Callable[[str, str], GroupRules], partition: int) -> None:
        self.partition = partition
        self.now = -1
        self._config = config
        self._since = -1
        self._rules: dict[tuple[str, str], GroupRules] = {}
        self._runs: dict[str, RunState] = {}
        self.memory = Remembering(self._runs)
        self._deadlines = Deadlines[GroupKey](self._deadline)
        self._outdated: list[bytes] = []
        self._moved = False

    @property
    def open_turns(self) -> int:
        """How many turns and groups of episodes are open."""
        return sum(run.open for run in self._runs.values())

    @property
    def oldest_open(self) -> int | None:
        """Stream time at which the oldest open turn opened, ms; None when none is open."""
        return min((group.opened for run in self._runs.values() for group in run.groups()), default=None)

    @property
    def next_deadline(self) -> int | None:
        """Stream time at which the next open turn times out, ms, by its run's setting; None without one."""
        first = self._deadlines.next_due(_NEVER)
        return None if first is None else first[0]

    def rules(self, run_id: str, config_digest: str) -> GroupRules:
        """Return the rules of a configuration.

        Raises:
            KeyError: when it is unknown.
        """
        known = self._rules.get((run_id, config_digest))
        if known is None:
            known = self._rules[run_id, config_digest] = self._config(run_id, config_digest)
        return known

    def run(self, run_id: str) -> RunState:
        """Return what is known of a run."""
        run = self._runs.get(run_id)
        if run is None:
            run = self._runs[run_id] = RunState(run_id)
        return run

    def restore(self, key: bytes, value: bytes) -> None:
        """Take back one live record of the changelog; the order does not matter.

        What a later release added, keys and fields, is left out.

        Raises:
            KeyError: when the rules of an open turn's configuration are unknown.
        """
        kind, _, rest = key.partition(b"/")
        if key == _CLOCK_KEY:
            self.now, self._since = (int(part) for part in value.split()[:2])
        elif kind == b"run":
            self._outdated.append(key)
        elif kind == MEMORY.encode():
            run_id, name = decode_key(rest)
            self.memory.restore(self.run(run_id), name, value)
        elif kind in _MEMBERS:
            self._restore_member(key, value)

    def settle(self, time: int, effects: Effects) -> None:
        """Make what was restored ready for the record that came at ``time``."""
        if self._outdated:
            self._since = max(self.now, time)
            self._moved = True
            effects.changes.update(dict.fromkeys(self._outdated))
            self._outdated.clear()
        self.memory.settle(self._since)

    def advance(self, time: int, effects: Effects) -> None:
        """Set stream time to ``time``, when nothing is due before it, and forget what is past its memory."""
        self.now, self._moved = time, True
        for run in self.memory.forget_past(time, effects):
            self._drop_idle(run)

    def put_clock(self, effects: Effects) -> None:
        """Put down stream time, if it moved."""
        if self._moved:
            effects.changes[_CLOCK_KEY] = b"%d %d" % (self.now, self._since)
            self._moved = False

    def next_due(self, time: int) -> tuple[int, GroupKey] | None:
        """Return the first open group, by (deadline, key), whose deadline is not after ``time``."""
        return self._deadlines.next_due(time)

    def add_turn(self, run: RunState, example: str, turn_id: str, turn: OpenTurn) -> None:
        """Open a turn."""
        run.add_turn(example, turn_id, turn)
        self._deadlines.note((run.run_id, TURN, example, turn_id), turn.deadline(self._since))

    def add_episodes(self, run: RunState, example: str, group: OpenEpisodes) -> None:
        """Open a group of episodes."""
        run.add_episodes(example, group)
        self._deadlines.note((run.run_id, EPISODES, example, ""), group.deadline(self._since))

    def remove_turn(self, run: RunState, example: str, turn_id: str) -> OpenTurn:
        """Take an open turn out."""
        self._deadlines.forget((run.run_id, TURN, example, turn_id))
        return run.remove_turn(example, turn_id)

    def remove_episodes(self, run: RunState, example: str) -> OpenEpisodes:
        """Take an open group of episodes out."""
        self._deadlines.forget((run.run_id, EPISODES, example, ""))
        return run.remove_episodes(example)

    def _deadline(self, key: GroupKey) -> int | None:
        run = self._runs.get(key[0])
        group: AnyGroup | None = None if run is None else run.find(key)
        return None if group is None else group.deadline(self._since)

    def _drop_idle(self, run: RunState) -> None:
        if run.idle and self._runs.pop(run.run_id, None) is not None:
            self._rules = {key: rules for key, rules in self._rules.items() if key[0] != run.run_id}

    def _restore_member(self, key: bytes, value: bytes) -> None:
        prefix, _, accepted = key.rsplit(b"/", 2)
        kind, run_id, example, turn_id, config_digest = _member_key(prefix)
        run, rules = self.run(run_id), self.rules(run_id, config_digest)
        if kind == TURN:
            turn = run.turns.get(example, {}).get(turn_id)
            if turn is None:
                turn = OpenTurn(config_digest, rules, int(accepted))
                self.add_turn(run, example, turn_id, turn)
            turn.restore(key, value)
        else:
            episode = EpisodeStep.of_service(value)
            group = run.episodes.get(example)
            if group is None:
                group = OpenEpisodes(config_digest, rules, prefix, int(accepted))
                self.add_episodes(run, example, group)
            group.restore(key, episode, episode.episode_id, crc32(value))


def configuration_of(key: bytes) -> tuple[str, str] | None:
    """Return run and digest of the configuration that a state record needs, None when it needs none."""
    kind, _, _ = key.partition(b"/")
    if kind in _WAITING:
        _, waiting_run, *_, its_digest = decode_key(key)
        return waiting_run, its_digest
    if kind not in _MEMBERS:
        return None
    _, run_id, _, _, config_digest = _member_key(key.rsplit(b"/", 2)[0])
    return run_id, config_digest


def example_prefixes(run_id: str, example_id: str) -> list[bytes]:
    """Return with what the keys of an example's open and kept turns and of its open episodes begin."""
    return [encode_key(kind, run_id, example_id) + b"/" for kind in (TURN, KEPT, EPISODES)]


@lru_cache(maxsize=1024)
def _member_key(prefix: bytes) -> tuple[str, str, str, str, str]:
    kind, run_id, example, turn, config_digest = decode_key(prefix)
    return kind, run_id, example, turn[1:], config_digest
