"""What runs in a child process."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from tunestream.trainers.port import TrainingFailed

__all__ = ["Program"]

_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Program:
    """What a child process runs, and how messages name it.

    Attributes:
        runner: the module whose functions do the work; it is imported by the child alone.
        serves: ``jobs`` of a :class:`~tunestream.trainers.worker.channel.JobRunner`, or ``calls`` to a
            :class:`~tunestream.trainers.worker.answering.CallRunner`; a process of one ``call`` ends by
            itself when it has answered.
        extra: of tunestream, that it needs.
        needs: packages; looked for before a process is started with this interpreter.
        python: the interpreter.
        environment: variables beside those of this process.
        by_accelerate: whether several processes may train a job together, launched by ``accelerate``.
        ends_children: whether what the process started is killed with it.
        name: of the process in messages, with its article.
        log: where the process prints, for messages.
        longest_message: bytes of one report.
    """

    runner: str
    serves: Literal["jobs", "calls", "call"] = "jobs"
    extra: str = ""
    needs: tuple[str, ...] = ()
    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)
    by_accelerate: bool = False
    ends_children: bool = False
    name: str = "the worker"
    log: str = "its log"
    longest_message: int = _MIB

    def check_installed(self) -> None:
        """Look for what the program needs; nothing is imported.

        Raises:
            TrainingFailed: when it is not installed; the code is ``missing_dependency``.
        """
        if self.python != sys.executable:
            if shutil.which(self.python) is None:
                raise TrainingFailed("missing_dependency", f"there is no interpreter {self.python}")
            return
        missing = [name for name in self.needs if importlib.util.find_spec(name) is None]
        if missing:
            raise TrainingFailed(
                "missing_dependency",
                f"{self.name} needs {', '.join(missing)}: pip install 'tunestream[{self.extra}]'",
            )
