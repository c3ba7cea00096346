"""What every child process and its owner exchange beside the messages of the program: whole lines.

A message is one JSON object a line. Commands come on the child's standard input, reports go to what was its
standard output. What the child prints goes another way, its standard error.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import ValidationError

from tunestream.events.base import Wire

__all__ = ["EXIT_ORPHANED", "HEARTBEAT", "READY", "CallRefused", "end_of_output", "faults_of"]

HEARTBEAT: Final = b'{"type":"heartbeat"}\n'
"""A sign of life: of the owner always, of the child while it works on a command."""
READY: Final = b'{"type":"ready"}\n'
"""The child takes commands now; the first line that it sends."""
EXIT_ORPHANED: Final = 3
"""The exit code of a child whose owner is gone."""


def end_of_output(mark: str) -> bytes:
    """Return the printed line that ends the output of a command; no library prints its first character."""
    return f"\x1eend {mark}\n".encode()


class CallRefused(Wire):
    """The call cannot be answered.

    Attributes:
        code: the reason's stable name.
        message: for people.
    """

    type: Literal["refused"] = "refused"
    code: str
    message: str


def faults_of(error: ValidationError) -> str:
    """Return what is wrong with a message, without what stands in it."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in faults)
