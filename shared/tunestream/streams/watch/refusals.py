"""The log of refused records: the first of each reason at once, the others as a count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from aiokafka import ConsumerRecord

from tunestream.domain.effects import Refused

__all__ = ["RefusalLog"]

_INTERVAL: Final = 30.0
# A key may be as large as a record.
_LONGEST_KEY: Final = 200


@dataclass(slots=True)
class _Reason:
    since: float
    left_out: int = 0


class RefusalLog:
    """What one partition logs of its refusals; every one of them is a dead letter all the same.

    Args:
        log: a bound logger.
        clock: monotonic, in seconds.
    """

    def __init__(self, log: Any, clock: Callable[[], float] = monotonic) -> None:
        self._log = log
        self._clock = clock
        self._reasons: dict[str, _Reason] = {}

    def note(self, record: ConsumerRecord, refusal: Refused) -> None:
        """Log a refusal, or count it when its reason was logged less than half a minute ago."""
        known = self._reasons.get(refusal.code)
        if known is not None:
            known.left_out += 1
            return
        self._reasons[refusal.code] = _Reason(self._clock())
        self._log.warning(
            "record.refused",
            topic=record.topic,
            offset=record.offset,
            key=(record.key or b"")[:_LONGEST_KEY].decode(errors="replace"),
            code=refusal.code,
            message=refusal.message,
        )

    def report(self) -> None:
        """Log how many were counted, of the reasons whose half minute is over."""
        now = self._clock()
        for code, reason in [*self._reasons.items()]:
            if now - reason.since < _INTERVAL:
                continue
            del self._reasons[code]
            if reason.left_out:
                seconds = round(now - reason.since)
                self._log.warning("records.refused", code=code, count=reason.left_out, seconds=seconds)
                self._reasons[code] = _Reason(now)
