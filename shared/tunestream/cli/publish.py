"""``tunestream publish``: recorded events to a run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from tunestream.cli.brokers import BrokersOption, broker_settings
from tunestream.cli.errors import Failure
from tunestream.cli.jsonl import FileTypeOption, read_lines
from tunestream.cli.lookup import applied_runs, no_such_run
from tunestream.cli.output import DryRunOption, JsonOption, emit, logs, note, warn
from tunestream.config.settings import KafkaSettings
from tunestream.events.keys import decode_key
from tunestream.sdk.event_files import LineError, LineReader, RecordedFormat, likely_format, line_reader
from tunestream.sdk.pieces import WHOLE, turns_go
from tunestream.streams.publish import EncodedRecord, EventProducer, EventTooLarge

__all__ = ["register"]

_SOURCE: Final = "/tunestream/cli/publish"
_SHOWN_EVERY: Final = 200
# Lines of progress where nobody watches a bar: after so many events, or so many seconds.
_LINE_EVENTS: Final = 10_000
_LINE_SECONDS: Final = 5.0

FileArgument = Annotated[
    str,
    typer.Argument(
        metavar="FILE|-", help="JSON lines, JSON, CSV, TSV or Parquet, may be gzipped; - is stdin."
    ),
]
RunOption = Annotated[
    str | None, typer.Option("--run", metavar="RUN", help="The run; native lines may name their own.")
]
FormatOption = Annotated[
    RecordedFormat,
    typer.Option("--format", help='native: the bodies of events; nat: {"example_id": …, "step": …}.'),
]
RestampOption = Annotated[
    bool, typer.Option("--restamp", help="Use the time of now, not the steps' event_timestamp.")
]
RateOption = Annotated[
    float | None, typer.Option("--rate", min=0.001, help="At most so many events a second.")
]
AllowUnknownOption = Annotated[
    bool, typer.Option("--allow-unknown", help="Publish to a run that was never applied, with a warning.")
]


def register(app: typer.Typer) -> None:
    """Add ``publish`` to ``app``."""
    app.command("publish")(publish)


def publish(
    file: FileArgument,
    *,
    run: RunOption = None,
    form: FormatOption = RecordedFormat.NATIVE,
    restamp: RestampOption = False,
    rate: RateOption = None,
    allow_unknown: AllowUnknownOption = False,
    dry_run: DryRunOption = False,
    file_type: FileTypeOption = None,
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish recorded events to a run.

    The first line that is no event ends the command, and so does the first event of a run that was never
    applied; the lines before it are published. Publishing the same file twice counts once, as every event
    has its own id. --dry-run reads the lines and asks no broker. To a deployment before format 3 a turn goes
    as single candidates and its end, and a line with more than these can hold ends the command.
    """
    if form is RecordedFormat.NAT and run is None:
        raise typer.BadParameter("steps of the NeMo Agent Toolkit name no run", param_hint="--run")
    started = time.monotonic()
    settings = broker_settings(brokers)
    runs = _Runs(None if dry_run else asyncio.run(applied_runs(settings)), allow_unknown=allow_unknown)
    if run is not None:
        runs.check(run)
    turns = WHOLE if dry_run else asyncio.run(turns_go(settings))
    read = line_reader(form, run_id=run, source=_SOURCE, restamp=restamp, turns=turns)
    with read_lines(file, file_type) as lines:
        events = runs.checked(file, _events(file, lines, form, read))
        count = sum(1 for _ in events) if dry_run else asyncio.run(_send(settings, _size(file), events, rate))
    seconds = time.monotonic() - started
    if as_json:
        emit({"events": count, "seconds": round(seconds, 3), "published": not dry_run})
    else:
        done = "would be published" if dry_run else f"published in {seconds:.1f} s ({count / seconds:,.0f}/s)"
        note(f"{count:,} event{'' if count == 1 else 's'} {done}")


class _Runs:
    """The runs that events are for.

    Args:
        known: those that were applied; None takes any.
        allow_unknown: warn of a run that was never applied, instead of refusing it.
    """

    def __init__(self, known: Collection[str] | None, *, allow_unknown: bool) -> None:
        self._known = known
        self._allow_unknown = allow_unknown
        self._checked: set[str] = set()

    def checked(self, name: str, events: Iterator[_Event]) -> Iterator[_Event]:
        """Yield events, and check the run of each."""
        for event in events:
            key = event.records[0].key
            assert key is not None
            self.check(decode_key(key)[0], place=f"{name}:{event.number}: ")
            yield event

    def check(self, run_id: str, place: str = "") -> None:
        """Refuse or warn of a run that was never applied, once.

        Raises:
            Failure: with the names that are near.
        """
        if run_id in self._checked:
            return
        self._checked.add(run_id)
        if self._known is None or run_id in self._known:
            return
        failure = no_such_run(run_id, self._known)
        if not self._allow_unknown:
            raise Failure(f"{place}{failure}", remedy=f"{failure.remedy}; --allow-unknown publishes to it")
        warn(f"{place}{failure}; its events are dead letters until it is applied and they are replayed")


class _Event(NamedTuple):
    """One line of the input: its number, its length in bytes, and its records, mostly one."""

    number: int
    length: int
    records: list[EncodedRecord]


def _events(name: str, lines: Iterator[bytes], form: RecordedFormat, read: LineReader) -> Iterator[_Event]:
    """Yield the event of each line that is not empty."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                records = read(line, time.time_ns() // 1_000_000)
            except (LineError, EventTooLarge) as error:
                raise Failure(f"{name}:{number}: {error}", remedy=_format_remedy(form, line)) from error
            yield _Event(number, len(line), records)


def _format_remedy(form: RecordedFormat, line: bytes) -> str:
    likely = likely_format(line)
    return f"Did you mean --format {likely}?" if likely not in {form, None} else ""


async def _send(
    settings: KafkaSettings, size: int | None, events: Iterator[_Event], rate: float | None
) -> int:
    count = read = 0
    began = time.monotonic()
    async with EventProducer(settings) as producer:
        with _progress(size) as show:
            for event in events:
                if rate is not None:
                    await asyncio.sleep(max(0.0, began + count / rate - time.monotonic()))
                for record in event.records:
                    await producer.send(record)
                count += 1
                read += event.length
                show(count, read)
    return count


@contextmanager
def _progress(size: int | None) -> Iterator[Callable[[int, int], None]]:
    """Show the events and bytes so far on stderr: a bar on a terminal, else lines."""
    screen = logs()
    if not screen.is_terminal:
        yield _lines(size)
        return
    columns = (
        TextColumn("{task.fields[events]:,} events"),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=screen, transient=True) as progress:
        bar = progress.add_task("publishing", total=size, events=0)

        def show(count: int, read: int) -> None:
            if count % _SHOWN_EVERY == 0:
                progress.update(bar, completed=read, events=count)

        yield show


def _lines(size: int | None) -> Callable[[int, int], None]:
    shown = time.monotonic()

    def show(count: int, read: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if count % _LINE_EVENTS == 0 or now - shown >= _LINE_SECONDS:
            shown = now
            note(f"{count:,} events" + (f", {read / size:.0%}" if size else ""))

    return show


def _size(name: str) -> int | None:
    """Return how many bytes of lines a file holds, None when nobody knows before they are read."""
    return None if name == "-" or name.endswith(".gz") else Path(name).stat().st_size
