"""Ends the embedded broker when the process that started it is gone; a program of its own.

A process that is killed cannot end its children, and a signal of the kernel at a parent's death
(``PR_SET_PDEATHSIG``) is sent when the *thread* ends that made the child. So this program is started beside
the broker, in a session of its own. Its standard input is a pipe from the parent, which the system closes at
the parent's end, however that comes. A process that the parent forked may hold the pipe open: the number of
our parent shows it as well.
"""

from __future__ import annotations

import os
import select
import sys
from typing import Final

import psutil

__all__ = ["main"]

_LOOK_SECONDS: Final = 0.5
_STOP_SECONDS: Final = 15.0


def main(parent: int) -> None:
    """Read the broker's pid from standard input, wait for the parent's end, and end the broker.

    Args:
        parent: the process that started this one.
    """
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return  # the parent ended before there was a broker
    try:
        broker = psutil.Process(int(line))
        _wait_for_end(parent)
        _end(broker)
    except psutil.NoSuchProcess:
        return


def _wait_for_end(parent: int) -> None:
    while os.getppid() == parent:
        ready, _, _ = select.select([sys.stdin], [], [], _LOOK_SECONDS)
        if ready:  # nothing follows the pid but the end
            return


def _end(broker: psutil.Process) -> None:
    broker.terminate()
    try:
        broker.wait(_STOP_SECONDS)
    except psutil.TimeoutExpired:
        broker.kill()


if __name__ == "__main__":
    main(int(sys.argv[1]))
