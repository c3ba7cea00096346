"""The warm worker process: ``python -m tunestream.trainers.worker.main``.

It imports what trains once (torch and TRL, unless ``--runner`` names another module) and then trains one
job after another. Commands come on standard input, reports go to what was standard output; both are JSON
lines. It ends when its input does, and when its owner was silent for ``--heartbeat-timeout`` seconds.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import time
from pathlib import Path
from typing import Any

from tunestream.trainers.worker.team import open_channel

__all__ = ["main"]


def main() -> None:
    """Serve jobs until the owner goes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--runner", default="tunestream.trainers.trl.runner", metavar="MODULE")
    parser.add_argument("--heartbeat-timeout", type=float, required=True, metavar="SECONDS")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for temporary files")
    options = parser.parse_args()
    # An interrupt goes to every process of a terminal; the owner decides what becomes of the job.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    started = time.monotonic()
    channel = open_channel(options.scratch, options.heartbeat_timeout)
    # Takes many seconds, in which the channel must notice already that the owner went.
    runner: Any = importlib.import_module(options.runner)
    runner.settle()
    channel.ready(time.monotonic() - started)
    for spec in channel.jobs():
        channel.finish(runner.run(spec, channel))


if __name__ == "__main__":
    main()
