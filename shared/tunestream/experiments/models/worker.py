"""The process that holds models: ``python -m tunestream.experiments.models.worker``.

It imports torch once and then answers one call after another. Calls come on standard input, replies go
to what was standard output; both are JSON lines. It ends when its input does.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading

from tunestream.experiments.models.protocol import CALLS, Call, Reply, Started

__all__ = ["main"]


def main() -> None:
    """Answer calls until the owner goes."""
    # An interrupt goes to every process of a terminal; the owner decides what becomes of the call.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    # Libraries print: what they write to standard output goes to standard error from here on.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    calls: queue.SimpleQueue[Call] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(calls,), name="calls", daemon=True).start()
    # Takes many seconds, in which the thread must notice already that the owner went.
    from tunestream.experiments.models.runner import Runner  # noqa: PLC0415

    runner = Runner()
    reply: Reply = Started()
    while True:
        output.write(reply.to_json() + b"\n")
        reply = runner.answer(calls.get())


def _read(calls: queue.SimpleQueue[Call]) -> None:
    for line in sys.stdin.buffer:
        calls.put(CALLS.validate_json(line))
    os._exit(0)


if __name__ == "__main__":
    main()
