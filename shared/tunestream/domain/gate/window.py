"""One curriculum window: the groups that are collected for an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tunestream.config.run.durations import milliseconds
from tunestream.config.run.run import BatchingConfig
from tunestream.domain.gate.bodies import Arrival

__all__ = ["Held", "Window"]


class Held(NamedTuple):
    """A group that waits in a window.

    Attributes:
        group: what the curriculum decides by.
        name: under which it is remembered.
        value: its body as it came, or the JSON of the reference that stands for it.
        stored: whether it is the reference.
    """

    group: Arrival
    name: bytes
    value: bytes
    stored: bool = False


class Window:
    """Groups by arrival number; they may be restored in any order.

    Attributes:
        prefix: of the state keys of its groups.
        keys: state keys of its groups.
        pairs: trajectories in it.
    """

    __slots__ = ("_config", "_first", "_flush", "_groups", "_last", "_wait", "keys", "pairs", "prefix")

    def __init__(self, prefix: bytes, config: BatchingConfig, time: int) -> None:
        self.prefix = prefix
        self.keys: list[bytes] = []
        self.pairs = 0
        self._config = config
        self._flush = milliseconds(config.flush_after)
        self._wait = milliseconds(config.max_wait)
        self._first = time
        self._last = time
        self._groups: dict[int, Held] = {}

    def __iter__(self) -> Iterator[Held]:
        """Give the groups in order of arrival."""
        return (self._groups[number] for number in sorted(self._groups))

    def accept(self, held: Held, now: int) -> bytes:
        """Add a group at stream time ``now`` and return its state key."""
        key = b"%b/%d/%d" % (self.prefix, len(self._groups), now)
        self.restore(key, held)
        return key

    def restore(self, key: bytes, held: Held) -> None:
        """Take back a group that :meth:`accept` gave ``key``."""
        _, number, accepted = key.rsplit(b"/", 2)
        self._groups[int(number)] = held
        self.keys.append(key)
        self.pairs += held.group.size
        self._first = min(self._first, int(accepted))
        self._last = max(self._last, int(accepted))

    @property
    def full(self) -> bool:
        """Whether the window has all its trajectories."""
        return self.pairs >= self._config.window_pairs

    def deadline(self, since: int) -> int:
        """Return the stream time at which the window closes unless another group comes, ms.

        Args:
            since: no group counts as older than this stream time, ms.
        """
        first, last = max(self._first, since), max(self._last, since)
        flush = last + self._flush
        if self.pairs < self._config.min_batch_pairs:
            return flush
        return min(flush, max(last, first + self._wait))
