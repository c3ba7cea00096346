"""What the pair builder keeps of one partition: its runs, their rules, and how it all comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from tunestream.config.run.trajectory_builder import TrajectoryBuilder
from tunestream.domain.effects import Effects
from tunestream.domain.turns.group_rules import GroupRules
from tunestream.domain.turns.memory import fingerprint
from tunestream.domain.turns.open_group import OpenGroup
from tunestream.domain.turns.run_state import EPISODES, TURN, RunState
from tunestream.events.keys import decode_key, encode_key
from tunestream.events.ttc import CandidateStep, EpisodeStep

__all__ = ["PartitionState", "configuration_of", "example_prefixes"]

_REMEMBERED_A_PARTITION: Final = 100_000
_MEMORY: Final = "closed"


class PartitionState:
    """The runs of one partition.

    State keys: ``c|e/run/example/=turn/digest/arrival number/stream time`` holds a member's body as it
    came; ``closed/run/name`` a closed turn's memory; ``run/run`` the run's stream time and horizon.

    Args:
        config: (run id, config digest) → how trajectories are built; raises KeyError when unknown.
        grace_ms: added to every time-out.
    """

    def __init__(self, config: Callable[[str, str], TrajectoryBuilder], grace_ms: int) -> None:
        self._config = config
        self._grace_ms = grace_ms
        self._rules: dict[tuple[str, str], GroupRules] = {}
        self._runs: dict[str, RunState] = {}
        self._remembered = 0
        self._unsettled = False

    @property
    def open_turns(self) -> int:
        """How many turns and groups of episodes are open."""
        return sum(run.open for run in self._runs.values())

    @property
    def oldest_open(self) -> int | None:
        """Stream time at which the oldest open turn opened, ms; None when none is open."""
        opened = (group.opened for run in self._runs.values() for _, group in run.groups())
        return min(opened, default=None)

    def rules(self, run_id: str, config_digest: str) -> GroupRules:
        """Return the rules of a configuration.

        Raises:
            KeyError: when it is unknown.
        """
        known = self._rules.get((run_id, config_digest))
        if known is None:
            known = GroupRules.of(self._config(run_id, config_digest), self._grace_ms)
            self._rules[run_id, config_digest] = known
        return known

    def run(self, run_id: str) -> RunState:
        """Return what is known of a run."""
        run = self._runs.get(run_id)
        if run is None:
            run = self._runs[run_id] = RunState(run_id)
        return run

    def restore(self, key: bytes, value: bytes) -> None:
        """Take back one live record of the changelog; the order does not matter.

        Raises:
            KeyError: when the rules of an open turn's configuration are unknown.
        """
        kind, _, rest = key.partition(b"/")
        if kind == b"run":
            run = self.run(*decode_key(rest))
            run.now, run.horizon = (int(part) for part in value.split())
        elif kind == _MEMORY.encode():
            run_id, name = decode_key(rest)
            self.run(run_id).memory.insert(bytes.fromhex(name), value)
            self._remembered += 1
            self._unsettled = True
        else:
            self._restore_member(key, value)

    def settle(self) -> None:
        """Bring memories in order; must come between the last :meth:`restore` and the first event."""
        if self._unsettled:
            for run in self._runs.values():
                run.memory.settle()
            self._unsettled = False

    def _restore_member(self, key: bytes, value: bytes) -> None:
        prefix, _, accepted = key.rsplit(b"/", 2)
        kind, run_id, example, turn_id, config_digest = _member_key(prefix)
        run, rules, mark = self.run(run_id), self.rules(run_id, config_digest), fingerprint(value)
        if kind == TURN:
            candidate = CandidateStep.model_validate_json(value)
            turn = run.turns.get(example, {}).get(turn_id)
            if turn is None:
                turn = OpenGroup[CandidateStep](config_digest, rules, prefix, int(accepted))
                run.add_turn(example, turn_id, turn)
            turn.expect(candidate.expected_candidates)
            turn.restore(key, candidate, candidate.candidate_id, mark)
        else:
            episode = EpisodeStep.model_validate_json(value)
            group = run.episodes.get(example)
            if group is None:
                group = OpenGroup[EpisodeStep](config_digest, rules, prefix, int(accepted))
                run.add_episodes(example, group)
            group.restore(key, episode, episode.episode_id, mark)

    def remember(
        self,
        run: RunState,
        closed: Mapping[bytes, Mapping[str, int]],
        at: int,
        rules: GroupRules,
        effects: Effects,
    ) -> None:
        """Remember what was closed at stream time ``at``: fingerprints by member id, by name."""
        for name, fingerprints in closed.items():
            record = run.memory.add(name, at, at + rules.memory_ms, fingerprints)
            effects.changes[_memory_key(run.run_id, name)] = record
        self._remembered += len(closed)
        while len(run.memory) > rules.remembered:
            self._forget_early(run, effects)
        while self._remembered > _REMEMBERED_A_PARTITION:
            self._forget_early(min(self._runs.values(), key=_oldest_memory), effects)

    def forget_past(self, run: RunState, time: int, effects: Effects) -> None:
        """Forget what is past its memory after stream time ``time``."""
        while run.memory.next_until <= time:
            self._forget(run, effects)

    def _forget_early(self, run: RunState, effects: Effects) -> None:
        run.horizon = max(run.horizon, self._forget(run, effects))
        effects.put(run.state_key, b"%d %d" % (run.now, run.horizon))

    def _forget(self, run: RunState, effects: Effects) -> int:
        name, closed = run.memory.forget()
        self._remembered -= 1
        effects.delete(_memory_key(run.run_id, name))
        return closed.at


def _oldest_memory(run: RunState) -> tuple[bool, int, str]:
    oldest = run.memory.oldest()
    return (oldest is None, oldest.at if oldest else 0, run.run_id)


def _memory_key(run_id: str, name: bytes) -> bytes:
    return _memory_prefix(run_id) + name.hex().encode()


@lru_cache(maxsize=256)
def _memory_prefix(run_id: str) -> bytes:
    return encode_key(_MEMORY, run_id) + b"/"


def configuration_of(key: bytes) -> tuple[str, str] | None:
    """Return run and digest of the configuration that a state record needs, None when it needs none."""
    kind, _, _ = key.partition(b"/")
    if kind.decode() not in {TURN, EPISODES}:
        return None
    _, run_id, _, _, config_digest = _member_key(key.rsplit(b"/", 2)[0])
    return run_id, config_digest


def example_prefixes(run_id: str, example_id: str) -> tuple[bytes, bytes]:
    """Return with what the keys of an example's open turns and of its open episodes begin."""
    return encode_key(TURN, run_id, example_id) + b"/", encode_key(EPISODES, run_id, example_id) + b"/"


@lru_cache(maxsize=1024)
def _member_key(prefix: bytes) -> tuple[str, str, str, str, str]:
    kind, run_id, example, turn, config_digest = decode_key(prefix)
    return kind, run_id, example, turn[1:], config_digest
