"""Where a service spends its CPU: the frames of its main thread, sampled by a timer of CPU time.

``python -m tests.bench.sampling FILE ARGUMENT…`` runs ``tunestream ARGUMENT…`` and writes counts at its end.
A sample is taken between two steps of the interpreter, so C code counts for the line that calls it; the
timer costs about one per cent.
"""

from __future__ import annotations

import atexit
import json
import signal
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

__all__ = ["command", "profile"]

_EVERY_SECONDS: Final = 0.002
_SHOWN: Final = 25
# A service imports for seconds what it then runs; that is no part of its work.
_IMPORT: Final = "_call_with_frames_removed"


def command(out: Path) -> tuple[str, ...]:
    """Return the arguments of an interpreter that runs a service and samples it."""
    return ("-m", "tests.bench.sampling", str(out), "service", "run")


def profile(out: Path) -> str:
    """Return what was sampled, in Markdown: the functions with the largest shares.

    Args:
        out: the file of a run.
    """
    alone, within = (Counter(counts) for counts in json.loads(out.read_text("utf-8")))
    total = max(1, sum(alone.values()))
    lines = ["| function | alone | with what it calls |", "|---|---|---|"]
    for name, count in alone.most_common(_SHOWN):
        lines.append(f"| {name} | {count / total:.1%} | {within[name] / total:.1%} |")
    return "\n".join(lines)


class _Samples:
    """Counts by function: of samples in itself, and of samples in what it calls."""

    def __init__(self) -> None:
        self._alone: Counter[str] = Counter()
        self._within: Counter[str] = Counter()

    def take(self, _number: int, frame: FrameType | None) -> None:
        """Count one sample; imports count nowhere."""
        if frame is None:
            return
        stack = []
        while frame is not None:
            stack.append(_name(frame.f_code))
            frame = frame.f_back
        if not any(_IMPORT in name for name in stack):
            self._alone[stack[0]] += 1
            self._within.update(set(stack))

    def write(self, out: Path) -> None:
        """Write both counts as JSON."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        out.write_text(json.dumps([self._alone, self._within]), "utf-8")


@cache
def _name(code: CodeType) -> str:
    path = Path(code.co_filename)
    return f"{path.parent.name}/{path.stem}.{code.co_qualname}"


def main() -> None:
    """Sample the command that the arguments name."""
    from tunestream.cli import main as tunestream

    _, out, *arguments = sys.argv
    sys.argv = ["tunestream", *arguments]
    samples = _Samples()
    signal.signal(signal.SIGPROF, samples.take)
    atexit.register(samples.write, Path(out))
    signal.setitimer(signal.ITIMER_PROF, _EVERY_SECONDS, _EVERY_SECONDS)
    tunestream()


if __name__ == "__main__":
    main()
