"""Logs of jobs: ``logs/<job>/<attempt>/<part>.jsonl``.

Object stores cannot append, so a log is a row of parts of which only the last one is written again. It is
bounded: of a long one the beginning and the end stay.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

from pydantic import AwareDatetime, Field

from tunestream.artifacts.errors import ArtifactMissing
from tunestream.artifacts.store import ArtifactStore
from tunestream.events.base import Wire

__all__ = ["AttemptLog", "LogLine", "LogStore"]

PART_BYTES: Final = 1 << 16
PARTS: Final = 16  # of an attempt
_FIRST: Final = 4  # of them are its beginning
_LINE_CHARACTERS: Final = 4000


class LogLine(Wire):
    """One line of an attempt's log."""

    attempt: int = Field(ge=0)
    time: AwareDatetime
    source: Literal["output", "report"] = Field(description="printed by the worker, or reported to its owner")
    text: str


class LogStore:
    """The logs of one job.

    Args:
        store: where they are kept.
        job_id: the job; must be usable as a file name.
    """

    def __init__(self, store: ArtifactStore, job_id: str) -> None:
        self.name = f"logs/{job_id}"
        self.files = store.files

    def attempts(self) -> list[int]:
        """Return the numbers of the attempts that have a log."""
        return sorted(int(name) for name in self.files.children(self.name) if name.isdecimal())

    def read(self, attempt: int) -> list[LogLine]:
        """Return the lines of an attempt, the oldest first."""
        lines: list[LogLine] = []
        for part in self.files.children(f"{self.name}/{attempt}"):
            if not part.endswith(".jsonl"):
                continue  # is being written
            try:
                content = self.files.read(f"{self.name}/{attempt}/{part}")
            except ArtifactMissing:
                continue  # gave way to a newer part
            lines += [LogLine.model_validate_json(line) for line in content.splitlines()]
        return lines

    def exist(self) -> bool:
        """Return whether the job has a log."""
        return self.files.exists(self.name)

    def delete(self) -> None:
        """Delete all logs of the job."""
        self.files.remove(self.name)


class AttemptLog:
    """The log of one attempt, for one writer at a time; a later one goes on behind what is stored.

    :meth:`append` only remembers, :meth:`flush` blocks while it stores; they may come from two threads,
    but :meth:`flush` only from one at a time.
    """

    def __init__(self, store: LogStore, attempt: int) -> None:
        self._store = store
        self._attempt = attempt
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._lost = 0
        self._part = -1  # not looked for yet
        self._content = b""

    def append(self, time: datetime, source: Literal["output", "report"], text: str) -> None:
        """Remember a line; what would be more than a whole log is counted instead."""
        if len(text) > _LINE_CHARACTERS:
            text = f"{text[:_LINE_CHARACTERS]}… ({len(text)} characters)"
        if self._waiting_bytes > PARTS * PART_BYTES:
            self._lost += 1
            return
        line = LogLine(attempt=self._attempt, time=time, source=source, text=text)
        encoded = line.model_dump_json().encode() + b"\n"
        self._waiting.append(encoded)
        self._waiting_bytes += len(encoded)

    def flush(self, now: datetime) -> None:
        """Store what was appended since; after a fault of the store it is tried again by the next call."""
        if self._lost:
            lost, self._lost, self._waiting_bytes = self._lost, 0, 0
            self.append(now, "report", f"{lost} lines were left out: too many at once")
        if self._waiting and self._part < 0:
            self._part = self._next_part()
        while self._waiting:
            taken = self._take(self._waiting)
            content = self._content + b"".join(self._waiting[:taken])
            self._store.files.write(self._file(self._part), content)
            self._content = content
            del self._waiting[:taken]
            if len(content) >= PART_BYTES:
                self._part, self._content = self._part + 1, b""
                if self._part >= PARTS:
                    self._store.files.remove(self._file(self._part - PARTS + _FIRST))
        self._waiting_bytes = 0

    def _next_part(self) -> int:
        """Return the number of the part behind those that an earlier writer of the attempt stored."""
        names = self._store.files.children(f"{self._store.name}/{self._attempt}")
        stored = [int(name.removesuffix(".jsonl")) for name in names if name.endswith(".jsonl")]
        return max(stored, default=-1) + 1

    def _take(self, waiting: list[bytes]) -> int:
        """Return how many lines fill the current part."""
        size = len(self._content)
        for number, line in enumerate(list(waiting), start=1):
            size += len(line)
            if size >= PART_BYTES:
                return number
        return number

    def _file(self, part: int) -> str:
        return f"{self._store.name}/{self._attempt}/{part:06}.jsonl"
