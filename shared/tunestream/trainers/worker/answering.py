"""The child's side of calls."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError

from tunestream.events.base import Wire
from tunestream.trainers.worker.child import OwnerLine
from tunestream.trainers.worker.lines import HEARTBEAT, CallRefused, faults_of

__all__ = ["CallLine", "CallRunner"]


class CallRunner(Protocol):
    """A module that answers calls, in the child process."""

    CALLS: TypeAdapter[Any]
    """Reads the calls."""

    def answer(self, call: Any, scratch: Path) -> Wire:
        """Answer a call; what it raises ends the process.

        Args:
            call: as ``CALLS`` reads it.
            scratch: the process's temporary folder.
        """


class CallLine:
    """The child's side: takes calls from the start on, and answers them once the runner is imported.

    Args:
        scratch: the process's temporary folder.
        heartbeat_timeout: seconds of silence after which the owner counts as gone.
    """

    def __init__(self, scratch: Path, heartbeat_timeout: float) -> None:
        self._scratch = scratch
        self._calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._owner = OwnerLine(scratch, heartbeat_timeout, self._calls.put)

    def serve(self, runner: CallRunner, *, once: bool) -> None:
        """Answer one call, or calls until the owner goes."""
        self._owner.ready()
        self._serve(runner)
        while not once:
            self._serve(runner)

    def _serve(self, runner: CallRunner) -> None:
        line = self._calls.get()
        self._owner.repeat(HEARTBEAT)
        answer = self._answer(runner, line)
        self._owner.repeat(None)
        self._owner.send(answer)

    def _answer(self, runner: CallRunner, line: bytes) -> Wire:
        try:
            call = runner.CALLS.validate_json(line)
        except ValidationError as error:
            return CallRefused(code="unreadable_call", message=f"the call cannot be read: {faults_of(error)}")
        return runner.answer(call, self._scratch)
