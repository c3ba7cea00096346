"""The clock of one partition: the broker's time, made monotone."""

from __future__ import annotations

__all__ = ["PartitionClock"]


class PartitionClock:
    """Stream time of one partition, in milliseconds since the epoch.

    With L the time at which the broker took the last record, stream time is L + offset and never goes back.
    The offset grows by each step back between two records (somebody set the broker's clock, or another broker
    leads now), and half of each later step forward pays it back. So stream time goes on at half the broker's
    pace at least, and equals the broker's time once the offset is paid.

    A tick reaches the time that a record would reach if the broker took it now. It leaves L and the offset
    alone, so records and ticks give the times of the records alone.

    Attributes:
        time: stream time, ms; 0 before the first record.
    """

    __slots__ = ("_halves", "_log", "time")

    def __init__(self) -> None:
        self.time = 0
        self._log: int | None = None
        self._halves = 0  # the offset in half milliseconds, so that no step is rounded

    @property
    def begun(self) -> bool:
        """Whether there was a record."""
        return self._log is not None

    def record(self, log_time: int) -> int:
        """Take a record that the broker took at ``log_time``, ms, and return the stream time."""
        step = 0 if self._log is None else log_time - self._log
        self._halves = self._halves - 2 * step if step < 0 else max(0, self._halves - step)
        self._log = log_time
        return self.tick(0)

    def tick(self, elapsed: int) -> int:
        """Go on to ``elapsed`` ms after the last record and return the stream time.

        Raises:
            ValueError: before the first record.
        """
        if self._log is None:
            raise ValueError("a clock begins with a record")
        halves = max(0, self._halves - elapsed)
        self.time = max(self.time, self._log + elapsed + halves // 2)
        return self.time

    @property
    def elapsed(self) -> int:
        """How long after the last record stream time is, ms: the ``elapsed`` of the last tick."""
        if self._log is None:
            return 0
        ahead = self.time - self._log
        return max(0, ahead if ahead > self._halves else 2 * ahead - self._halves)

    def to_bytes(self) -> bytes:
        """Return what :meth:`restore` needs beside the stream time."""
        return b"%d %d" % (self._log or 0, self._halves)

    def restore(self, time: int, value: bytes) -> None:
        """Take back a stream time and what :meth:`to_bytes` returned then."""
        self.time = time
        self._log, self._halves = (int(part) for part in value.split()[:2])
