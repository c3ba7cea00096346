"""Whether the broker's clock can be stream time: what records show of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tunestream.streams.tasks.handler import Inbound
from tunestream.topics import topic

__all__ = ["BrokerClock"]

_FAR_MS: Final = 60_000
_INPUT: Final = topic("ttc.events").name


class BrokerClock:
    """What one partition's records show of the broker's clock.

    A record from the future shows a broker that is ahead. One that is behind cannot be distinguished from old
    records, unless the record came after all records of the partition had been taken.
    """

    def __init__(self) -> None:
        self._without = False
        self._ahead_ms = 0
        self._caught_up: float | None = None

    def caught_up(self, now: float) -> None:
        """Note that every record of the partition was taken at ``now`` (monotonic, s)."""
        self._caught_up = now

    def compare(self, records: Sequence[Inbound], now: float, wall: int) -> None:
        """Take the records that were read next.

        Args:
            records: in their order.
            now: monotonic clock, s.
            wall: this process's clock, ms since the epoch.
        """
        if not records:
            return
        self._without = not records[-1].by_broker
        if self._without:
            return
        ahead = records[-1].time - wall
        oldest_ms = None if self._caught_up is None else (now - self._caught_up) * 1000
        self._caught_up = None
        shows = oldest_ms is not None and ahead + oldest_ms < -_FAR_MS
        if ahead >= -_FAR_MS or shows:
            self._ahead_ms = ahead

    def reasons(self) -> list[str]:
        """Return why stream time stands still."""
        if not self._without:
            return []
        line = (
            f"topic {_INPUT} does not carry the broker's time (message.timestamp.type is not LogAppendTime), "
            "so stream time stands still; run `tunestream topics apply`"
        )
        return [line]

    def warnings(self) -> list[str]:
        """Return how far the clocks are apart, when they are far."""
        if abs(self._ahead_ms) <= _FAR_MS:
            return []
        where = "ahead of" if self._ahead_ms > 0 else "behind"
        line = (
            f"the broker's clock is {abs(self._ahead_ms) / 1000:.0f} s {where} this machine's; stream time "
            "is the broker's: set the clocks by NTP"
        )
        return [line]
