"""Processes of this machine, recognised later although numbers are given again."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import psutil

__all__ = ["ProcessRecord"]


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A process; its start time differs from that of a later one with the same pid.

    Attributes:
        pid: its number.
        started: seconds since the epoch.
    """

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Self:
        """Return the record of a live process; needs psutil, which extras bring."""
        import psutil  # noqa: PLC0415 - the base installation has none

        return cls(pid, psutil.Process(pid).create_time())

    @classmethod
    def look_up(cls, pid: int) -> Self | None:
        """Return the record of a process, None when it has ended; needs psutil."""
        import psutil  # noqa: PLC0415 - the same

        try:
            return cls.of(pid)
        except psutil.NoSuchProcess:
            return None

    def find(self) -> psutil.Process | None:
        """Return the process if it still lives; needs psutil."""
        import psutil  # noqa: PLC0415 - the same

        try:
            process = psutil.Process(self.pid)
            # Start times are computed from the boot time, which systems round.
            same = abs(process.create_time() - self.started) < 1.0
        except psutil.NoSuchProcess:
            return None
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None

    @property
    def is_alive(self) -> bool:
        """Whether the process lives; without psutil, whether one with its number does."""
        if find_spec("psutil") is not None:
            return self.find() is not None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
