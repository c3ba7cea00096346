"""``tunestream publish``: recorded events to a run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from tunestream.cli.errors import Failure
from tunestream.cli.jsonl import FileTypeOption, read_lines
from tunestream.cli.output import DryRunOption, JsonOption, emit, logs, note
from tunestream.config.settings import KafkaSettings
from tunestream.sdk.event_files import LineError, RecordedFormat, line_reader
from tunestream.streams.publish import EncodedRecord, EventProducer, EventTooLarge

__all__ = ["register"]

_SOURCE: Final = "/tunestream/cli/publish"
_SHOWN_EVERY: Final = 200

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
    dry_run: DryRunOption = False,
    file_type: FileTypeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish recorded events to a run.

    The first line that is no event ends the command; the lines before it are published. Publishing the
    same file twice counts once, as every event has its own id.
    """
    if form is RecordedFormat.NAT and run is None:
        raise typer.BadParameter("steps of the NeMo Agent Toolkit name no run", param_hint="--run")
    started = time.monotonic()
    with read_lines(file, file_type) as lines:
        events = _events(file, lines, form, run, restamp=restamp)
        count = sum(1 for _ in events) if dry_run else asyncio.run(_send(_size(file), events, rate))
    seconds = time.monotonic() - started
    if as_json:
        emit({"events": count, "seconds": round(seconds, 3), "published": not dry_run})
    else:
        done = "would be published" if dry_run else f"published in {seconds:.1f} s ({count / seconds:,.0f}/s)"
        note(f"{count:,} events {done}")


def _events(
    name: str, lines: Iterator[bytes], form: RecordedFormat, run: str | None, *, restamp: bool
) -> Iterator[tuple[int, EncodedRecord]]:
    """Yield each event with the size of its line in bytes."""
    read = line_reader(form, run_id=run, source=_SOURCE, restamp=restamp)
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                record = read(line, time.time_ns() // 1_000_000)
            except (LineError, EventTooLarge) as error:
                raise Failure(f"{name}:{number}: {error}") from error
            yield len(line), record


async def _send(size: int | None, events: Iterator[tuple[int, EncodedRecord]], rate: float | None) -> int:
    count = read = 0
    began = time.monotonic()
    async with EventProducer(KafkaSettings()) as producer:
        with _progress() as progress:
            bar = progress.add_task("publishing", total=size, events=0)
            for length, record in events:
                if rate is not None:
                    await asyncio.sleep(max(0.0, began + count / rate - time.monotonic()))
                await producer.send(record)
                count += 1
                read += length
                if count % _SHOWN_EVERY == 0:
                    progress.update(bar, completed=read, events=count)
    return count


def _progress() -> Progress:
    """Return a progress bar on stderr, one that draws nothing where nobody watches."""
    screen = logs()
    columns = (
        TextColumn("{task.fields[events]:,} events"),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal)


def _size(name: str) -> int | None:
    """Return how many bytes of lines a file holds, None when nobody knows before they are read."""
    return None if name == "-" or name.endswith(".gz") else Path(name).stat().st_size
