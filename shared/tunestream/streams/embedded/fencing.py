"""After a crash: the controller fences the broker's former life before the next one begins.

In its metadata a broker that was killed leads its partitions until its session has run out. One that starts
within that time ends the transactions that were being ended, and takes a partition that has no leader at the
moment for a deleted one: it leaves the transaction's marker out. What was written there, and all that
follows, is then withheld from readers of committed records, until the same producer commits again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import psutil
import structlog

from tunestream.streams.embedded.folder import DataFolder
from tunestream.streams.embedded.java import Java, running

__all__ = ["fence"]

log = structlog.get_logger(__name__)
_FENCING: Final = "Fencing broker 1 "
_ACTIVE: Final = "Becoming the active controller"
# The session of the properties runs out half a second after the controller is active.
_SESSION_SECONDS: Final = 3.0
_START_SECONDS: Final = 60.0
# It is fenced in the log before it is in the metadata, which a controller that ends at once does not write.
# What is written is in order: the fencing is when two more writes are, one each 0.1 s (the properties again).
_WRITES: Final = 2
_WRITING_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05
_STOP_SECONDS: Final = 15.0


def fence(folder: DataFolder, java: Java) -> None:
    """Run the controller alone until it has fenced the broker; the folder holds its properties.

    A controller that does not start, or finds nothing to fence, is no fault here: the broker is started
    after it, and shows what is wrong.
    """
    with running(folder, java, _STOP_SECONDS) as process:
        fenced = _await(process, folder, _ACTIVE, _START_SECONDS)
        fenced = fenced and _await(process, folder, _FENCING, _SESSION_SECONDS)
        fenced = fenced and all(_await_write(process, folder) for _ in range(_WRITES))
    log.info("kafka_fenced" if fenced else "kafka_not_fenced", data=str(folder.path))


def _await(process: psutil.Popen, folder: DataFolder, line: str, seconds: float) -> bool:
    """Return whether the controller logs a line within so many seconds, and before it ends."""
    return _await_that(lambda: line in folder.log_text(), process, seconds)


def _await_write(process: psutil.Popen, folder: DataFolder) -> bool:
    """Return whether the metadata grow, before the controller ends."""
    before = _metadata_bytes(folder)
    return _await_that(lambda: _metadata_bytes(folder) > before, process, _WRITING_SECONDS)


def _metadata_bytes(folder: DataFolder) -> int:
    return sum(path.stat().st_size for path in (folder.records / "__cluster_metadata-0").glob("*.log"))


def _await_that(condition: Callable[[], bool], process: psutil.Popen, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
