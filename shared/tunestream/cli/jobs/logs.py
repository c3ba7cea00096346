"""``tunestream jobs logs``: the statuses of a job and the logs of its attempts, in order of time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import typer
from rich.markup import escape

from tunestream.artifacts import ArtifactStore, LogLine, LogStore
from tunestream.cli.brokers import BrokersOption, broker_settings
from tunestream.cli.lookup import JobArgument, read_job
from tunestream.cli.output import JsonOption, console, emit, emit_line, note
from tunestream.config.settings import KafkaSettings, StoreSettings
from tunestream.domain.jobs.lifecycle import TERMINAL
from tunestream.events.base import Wire
from tunestream.events.training import JobRecord, TrainingJobStatus
from tunestream.sdk import StatusSubscriber

__all__ = ["logs"]

_LOOK_SECONDS: Final = 1.0


class JournalLine(Wire):
    """One line: a status of the job, or of its worker's log."""

    attempt: int
    time: datetime
    source: Literal["status", "output", "report"]
    text: str


def logs(
    job: JobArgument,
    attempt: Annotated[
        int | None, typer.Option("--attempt", min=1, metavar="N", help="Only of this attempt.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job ends, or Ctrl-C.")
    ] = False,
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the statuses of a job and the logs of its attempts, in order of time.

    A log is what the worker printed and reported. It is in the artifact store a few seconds later, also
    when the attempt was killed. With --follow --json one JSON object a line.
    """
    found = asyncio.run(_print(broker_settings(brokers), job, attempt, follow=follow, as_json=as_json))
    if as_json and not follow:
        emit(found)
    elif not found:
        note("Nothing was kept.")


async def _print(
    settings: KafkaSettings, name: str, attempt: int | None, *, follow: bool, as_json: bool
) -> list[JournalLine]:
    job = await read_job(settings, name)
    journal = _Journal(settings, job, attempt)
    found: list[JournalLine] = []
    async for line in journal.follow() if follow else journal.so_far():
        found.append(line)
        if not as_json:
            console().print(_line(line), soft_wrap=True, highlight=False)
        elif follow:
            emit_line(line)
    return found


def _line(line: JournalLine) -> str:
    style = "bold" if line.source == "status" else "dim" if line.source == "report" else ""
    text = f"[{style}]{escape(line.text)}[/]" if style else escape(line.text)
    return f"[dim]{line.time:%H:%M:%S} {line.attempt}[/] {text}"


class _Journal:
    """The lines of a job, each given once."""

    def __init__(self, settings: KafkaSettings, job: JobRecord, attempt: int | None) -> None:
        self._settings = settings
        self._job = job
        self._attempt = attempt
        self._logs = LogStore(ArtifactStore(StoreSettings().artifacts), job.job_id)
        self._read_to: dict[int, datetime] = {}
        self._counter = 0

    async def so_far(self) -> AsyncIterator[JournalLine]:
        """Yield what there is now, the oldest first."""
        async with StatusSubscriber(
            self._job.run_id, from_beginning=True, settings=self._settings
        ) as statuses:
            reported = [status async for status in statuses.so_far()]
        reported.sort(key=lambda status: status.sequence)
        lines = list(await self._new_lines())
        rows = [*self._of_statuses(reported), *lines]
        for row in sorted(rows, key=lambda row: row.time):
            yield row

    async def follow(self) -> AsyncIterator[JournalLine]:
        """Yield what there is and what comes, to the job's end."""
        async with StatusSubscriber(
            self._job.run_id, from_beginning=True, settings=self._settings
        ) as statuses:
            coming = aiter(statuses)
            upcoming = asyncio.ensure_future(anext(coming))
            try:
                for line in await self._new_lines():
                    yield line
                while True:
                    await asyncio.wait([upcoming], timeout=_LOOK_SECONDS)
                    status = upcoming.result() if upcoming.done() else None
                    ended = status is not None and self._ends(status)
                    if status is None or ended:
                        for line in await self._new_lines():
                            yield line
                    if status is not None:
                        for row in self._of_statuses([status]):
                            yield row
                        upcoming = asyncio.ensure_future(anext(coming))
                    if ended:
                        return
            finally:
                upcoming.cancel()
                await asyncio.wait([upcoming])

    def _ends(self, status: TrainingJobStatus) -> bool:
        return status.job_id == self._job.job_id and status.status in TERMINAL

    async def _new_lines(self) -> Iterable[JournalLine]:
        lines = await asyncio.to_thread(self._read)
        return [
            JournalLine(attempt=one.attempt, time=one.time, source=one.source, text=one.text) for one in lines
        ]

    def _read(self) -> list[LogLine]:
        found: list[LogLine] = []
        for attempt in self._logs.attempts():
            if self._attempt in {None, attempt}:
                known = self._read_to.get(attempt)
                new = [line for line in self._logs.read(attempt) if known is None or line.time > known]
                if new:
                    self._read_to[attempt] = new[-1].time
                found += new
        return found

    def _of_statuses(self, statuses: Iterable[TrainingJobStatus]) -> Iterator[JournalLine]:
        """Give the statuses, without the progress that a log shows as well."""
        for status in statuses:
            if status.job_id != self._job.job_id:
                continue
            metadata: dict[str, Any] = status.metadata or {}
            self._counter = int(metadata.get("attempt", self._counter))
            if self._attempt not in {None, self._counter}:
                continue
            if "phase" in metadata and self._counter in self._read_to:
                continue
            text = f"{status.status}: {status.message}" if status.message else str(status.status)
            yield JournalLine(attempt=self._counter, time=status.time, source="status", text=text)
