"""``tunestream trajectories``: what the pair builder made of a run's turns, as files."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import Annotated, Final, NamedTuple, TypeVar

import typer
from pydantic import TypeAdapter

from tunestream.artifacts import ArtifactStore
from tunestream.artifacts.errors import ArtifactError, ArtifactUnreachable
from tunestream.cli.brokers import BrokersOption, broker_settings
from tunestream.cli.errors import Failure, TryAgain
from tunestream.cli.jsonl import write_lines
from tunestream.cli.lookup import check_run
from tunestream.cli.output import JsonOption, emit_line, note
from tunestream.cli.times import past_time
from tunestream.config.settings import KafkaSettings, StoreSettings
from tunestream.domain.turns.pair_rows import trl_line_of
from tunestream.events.groups import PreferenceGroup
from tunestream.events.keys import encode_key
from tunestream.events.trajectories import DPOItem, TrajectoryGroup, TrajectoryGroupRef
from tunestream.streams.letters.spans import SpanReader
from tunestream.streams.reading import StoredEvent, stored_events

__all__ = ["register"]

_TOPIC: Final = "trajectories"
Group = PreferenceGroup | TrajectoryGroup
_stored_group: Final[TypeAdapter[Group]] = TypeAdapter(Group)
Item = TypeVar("Item")


class ExportFormat(StrEnum):
    """What a line of the output is."""

    DPO = "dpo"
    TRL = "trl"
    JSONL = "jsonl"


class _Stored(NamedTuple):
    """A group, and its body as it was written."""

    group: Group
    value: bytes


_trajectories = typer.Typer(no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add ``trajectories`` to ``app``."""
    app.add_typer(_trajectories, name="trajectories")


@_trajectories.callback()
def trajectories() -> None:
    """Export what the pair builder made of a run's turns."""


@_trajectories.command()
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run.")],
    *,
    form: Annotated[
        ExportFormat,
        typer.Option("--format", help="Trajectories of DPOItems, TRL's preference rows, or the records."),
    ] = ExportFormat.DPO,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="Only from this time on: 1h, 2026-01-02 or 2026-01-02T03:04:05Z."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="At most so many lines, the first ones.")
    ] = None,
    output: Annotated[
        str, typer.Option("--out", "-o", metavar="FILE|-", help="File to write; - is stdout.")
    ] = "-",
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write what the `trajectories` topic holds of a run, a line each.

    Lines are in order of partition and offset. dpo and jsonl hold episodes too; trl has no rows for them
    and counts them. The summary goes to stderr, or with --json and an output file to stdout.
    """
    earliest = None if since is None else past_time(since, time.time_ns() // 1_000_000, "--since")
    counts: Counter[str] = Counter(dict.fromkeys(("groups", "lines", "episodes_left_out"), 0))
    with asyncio.Runner() as runner, _clear_errors():
        settings = broker_settings(brokers)
        runner.run(check_run(settings, run))
        groups = _iterate(runner, partial(_groups, settings, run, earliest))
        write_lines(output, islice(_lines(groups, form, counts), limit))
    if form is ExportFormat.TRL and counts["episodes_left_out"] and not counts["lines"]:
        raise Failure(f"run {run} has episodes, of which there are no preference rows", remedy="--format dpo")
    if as_json and output != "-":
        emit_line({"run_id": run, **counts})
    else:
        note(", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items()))


def _lines(groups: Iterator[_Stored], form: ExportFormat, counts: Counter[str]) -> Iterator[bytes]:
    """Yield the lines of groups, and count them."""
    for stored in groups:
        counts["groups"] += 1
        for line in _lines_of(stored, form, counts):
            counts["lines"] += 1
            yield line


def _lines_of(stored: _Stored, form: ExportFormat, counts: Counter[str]) -> Iterator[bytes]:
    group = stored.group
    if form is ExportFormat.JSONL:
        yield group.to_json() if b"\n" in stored.value else stored.value
    elif form is ExportFormat.DPO:
        yield from (trajectory.to_json() for trajectory in group.trajectories)
    elif group.kind == "preference":
        for trajectory in group.trajectories:
            item = trajectory.episode[0]
            assert isinstance(item, DPOItem)
            yield trl_line_of(item)
    else:
        counts["episodes_left_out"] += len(group.trajectories)


async def _groups(settings: KafkaSettings, run: str, since: int | None) -> AsyncIterator[_Stored]:
    """Yield the groups of a run; the bodies of large ones are fetched from the artifact store."""
    key, store = encode_key(run), ArtifactStore(StoreSettings().artifacts)
    async with SpanReader(settings, [settings.topic(_TOPIC)]) as reader:
        for span in await reader.spans(since=since):
            records = (record async for record in reader.read(span) if record.key == key)
            async for stored in stored_events(records):
                if (group := _group(stored, store)) is not None:
                    yield group


def _group(stored: StoredEvent, store: ArtifactStore) -> _Stored | None:
    body, value = stored.body, stored.record.value
    if isinstance(body, TrajectoryGroupRef):
        value = store.get_bytes(body.uri, body.sha256)
        body = _stored_group.validate_json(value, extra="ignore")
    return _Stored(body, value) if isinstance(body, Group) else None


def _iterate(runner: asyncio.Runner, make: Callable[[], AsyncIterator[Item]]) -> Iterator[Item]:
    """Take the items of an asynchronous iterator one by one; the runner closes it at its end."""
    items = make()

    async def one() -> tuple[Item, ...]:
        async for item in items:
            return (item,)
        return ()

    while found := runner.run(one()):
        yield from found


@contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except ArtifactError as error:
        raise Failure(
            f"a group's body lies in the artifact store and cannot be read: {error}",
            remedy="Set TUNESTREAM_ARTIFACTS to the store of the deployment",
        ) from error
    except ArtifactUnreachable as error:
        raise TryAgain(str(error)) from error
