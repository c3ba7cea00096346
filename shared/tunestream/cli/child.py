"""A process that is started here: what it is, its start, its end, and the last lines of its log."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

__all__ = ["ProcessSpec", "kill_group", "last_lines", "name_of_code", "start_process"]

_TAIL_LINES: Final = 8
_TAIL_BYTES: Final = 8192
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process to keep running.

    Attributes:
        name: for people.
        command: program and arguments.
        log: takes its stdout and stderr.
        environment: added to our environment.
        ready_url: answers 200 once it is at work; None when it counts as ready at once.
        live_url: answers 503 when it has to be started again; None when only its death counts.
        final_codes: exit codes after which to start it again is no use.
    """

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    ready_url: str | None = None
    live_url: str | None = None
    final_codes: tuple[int, ...] = ()


async def start_process(spec: ProcessSpec) -> Process:
    """Start a process in a session of its own; it ends when this one is killed."""
    spec.log.parent.mkdir(parents=True, exist_ok=True)
    with spec.log.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *spec.command,
            stdin=DEVNULL,
            stdout=log,
            stderr=STDOUT,
            env={**os.environ, **spec.environment},
            # Ctrl-C in the terminal is for us; we end them in order.
            start_new_session=True,
            preexec_fn=_end_with_parent if _LIBC else None,
        )


def _end_with_parent() -> None:
    """Have the kernel end the process when we are killed and cannot."""
    assert _LIBC is not None
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def kill_group(process: Process) -> None:
    """Kill a process with what it started, also when itself is gone."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def name_of_code(code: int) -> str:
    """Return what an exit code is: the code, or the signal that ended the process."""
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def last_lines(log: Path) -> str:
    """Return the last lines of a log, indented."""
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - _TAIL_BYTES))
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:]) or "  (nothing)"
