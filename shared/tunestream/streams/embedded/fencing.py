"""After a crash: the controller fences the broker's former life before the next one begins.

In its metadata a broker that was killed leads its partitions until its session has run out. One that starts
within that time ends the transactions that were being ended, and takes a partition that has no leader at the
moment for a deleted one: it leaves the transaction's marker out. What was written there, and all that
follows, is then withheld from readers of committed records, until the same producer commits again.
"""

from __future__ import annotations

import time
from typing import Final

import structlog

from tunestream.streams.embedded.folder import DataFolder
from tunestream.streams.embedded.java import Guard, end, launch

__all__ = ["fence"]

log = structlog.get_logger(__name__)
_FENCING: Final = "Fencing broker 1 "
_ACTIVE: Final = "Becoming the active controller"
# The session of the properties runs out half a second after the controller is active.
_SESSION_SECONDS: Final = 3.0
_START_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.05
_STOP_SECONDS: Final = 15.0


def fence(folder: DataFolder, jars: str) -> None:
    """Run the controller alone until it has fenced the broker; the folder holds its properties.

    A controller that does not start, or finds nothing to fence, is no fault here: the broker is started
    after it, and shows what is wrong.
    """
    begun = time.monotonic()
    guard = Guard()
    process = launch(folder, jars)
    try:
        guard.watch(process.pid)
        active: float | None = None
        while process.poll() is None and _FENCING not in (text := folder.log_text()):
            now = time.monotonic()
            if active is None and _ACTIVE in text:
                active = now
            if now > begun + _START_SECONDS or (active is not None and now > active + _SESSION_SECONDS):
                break
            time.sleep(_POLL_SECONDS)
    finally:
        end(process, _STOP_SECONDS)
        guard.dismiss()
    log.info("kafka_fenced", data=str(folder.path), seconds=round(time.monotonic() - begun, 1))
