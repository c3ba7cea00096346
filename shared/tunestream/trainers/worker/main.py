"""A child process of any program: ``python -m tunestream.trainers.worker.main``.

It imports the runner once, which loads what is heavy (torch and TRL, for example), and then serves one
command after another. It ends when its standard input does, and when its owner was silent for
``--heartbeat-timeout`` seconds.
"""

from __future__ import annotations

import argparse
import importlib
import signal
from pathlib import Path
from typing import Any

from tunestream.trainers.worker.answering import CallLine
from tunestream.trainers.worker.channel import JobRunner
from tunestream.trainers.worker.team import open_channel

__all__ = ["main"]


def main() -> None:
    """Serve an owner until it goes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--serves", choices=("jobs", "calls", "call"), default="jobs")
    parser.add_argument("--runner", required=True, metavar="MODULE")
    parser.add_argument("--heartbeat-timeout", type=float, required=True, metavar="SECONDS")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for temporary files")
    options = parser.parse_args()
    # An interrupt goes to every process of a terminal; the owner decides what becomes of the work.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The line is open while the runner is imported: that takes long, and the owner may go meanwhile.
    if options.serves == "jobs":
        channel = open_channel(options.scratch, options.heartbeat_timeout)
        _train(channel, _import(options.runner))
    else:
        line = CallLine(options.scratch, options.heartbeat_timeout)
        line.serve(_import(options.runner), once=options.serves == "call")


def _import(name: str) -> Any:
    return importlib.import_module(name)


def _train(channel: Any, runner: JobRunner) -> None:
    runner.settle()
    channel.ready()
    for spec in channel.jobs():
        channel.finish(runner.run(spec, channel))


if __name__ == "__main__":
    main()
