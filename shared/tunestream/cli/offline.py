"""``tunestream pairs`` and ``tunestream curriculum``: the domain's rules over files, without a broker."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Final

import orjson
import typer
from rich.markup import escape

from tunestream.cli.errors import Failure
from tunestream.cli.jsonl import FileTypeOption, read_lines, write_lines
from tunestream.cli.output import JsonOption, emit_line, logs, note, table
from tunestream.config.files.errors import ConfigError
from tunestream.config.run.loading import OfflineSection, load_offline
from tunestream.config.run.run import OfflineConfig
from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.domain.effects import Refused
from tunestream.domain.gate.epochs import run_epochs
from tunestream.domain.gate.strategy import StrategyFailed
from tunestream.domain.turns.offline import Summary
from tunestream.domain.turns.pair_rows import LINES, PairFormat
from tunestream.domain.turns.recorded_pairs import pairs_as_reference, pairs_as_stream
from tunestream.domain.turns.recorded_steps import RecordingError
from tunestream.rows.opening import FileType

__all__ = ["make_curriculum", "make_pairs_file", "register"]

InputArgument = Annotated[
    str, typer.Argument(help="JSON lines, JSON or Parquet, may be gzipped; - is stdin.")
]
OutputOption = Annotated[str, typer.Option("--output", "-o", help="File to write; - is stdout.")]
ConfigOption = Annotated[str, typer.Option("--config", "-c", help="The run's YAML file.")]

_SHOWN_REFUSALS: Final = 10


def register(app: typer.Typer) -> None:
    """Add ``pairs`` and ``curriculum`` to ``app``."""
    app.command()(pairs)
    app.command()(curriculum)


def pairs(
    source: InputArgument,
    *,
    config: ConfigOption,
    output: OutputOption = "-",
    nat_parity: Annotated[
        bool, typer.Option("--nat-parity", help="Exactly as the NeMo Agent Toolkit pairs.")
    ] = False,
    form: Annotated[PairFormat, typer.Option("--format", help="Our pairs, or TRL's preference rows.")] = (
        PairFormat.PAIRS
    ),
    file_type: FileTypeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make preference pairs of recorded events.

    A line of the input is {"example_id": …, "step": <NAT IntermediateStep>}. The summary goes to stderr,
    or with --json and an output file to stdout.
    """
    sections = _section(config, "trajectory_builder", "batching")
    builder = sections.trajectory_builder
    if not isinstance(builder, DPOTrajectoryBuilderConfig):
        raise Failure(
            f"{config}: trajectory_builder._type is {builder.type}, which makes no pairs",
            remedy="Set it to dpo_traj_builder.",
        )
    with _user_faults(source):
        summary = make_pairs_file(
            source,
            builder,
            output,
            window_pairs=sections.batching.window_pairs,
            nat_parity=nat_parity,
            form=form,
            file_type=file_type,
        )
    _report(summary, as_json=as_json, data_on_stdout=output == "-")


def curriculum(
    source: InputArgument,
    config: ConfigOption,
    output: OutputOption = "-",
    file_type: FileTypeOption = None,
) -> None:
    """Run the curriculum over epochs of groups, its state carried from line to line.

    A line of the input is {"epoch": n, "group_rewards": [[…], …]}; a line of the output is {"epoch": n,
    "selected_groups": [3, 0, …], "state": {…}}. The selected groups are positions in the input, the best
    rank first.
    """
    sections = _section(config, "curriculum_learning", "batching")
    with _user_faults(source):
        make_curriculum(source, sections, output, file_type=file_type)


def make_pairs_file(
    source: str,
    config: DPOTrajectoryBuilderConfig,
    output: str,
    *,
    window_pairs: int | None = None,
    nat_parity: bool = False,
    form: PairFormat = PairFormat.PAIRS,
    file_type: FileType | None = None,
) -> Summary:
    """Make pairs of a file of recorded events; the output appears when it is whole.

    Raises:
        RecordingError: at the first line that is not a recorded step.
        RowError: when the file cannot be read.
    """
    summary = Summary()
    make = pairs_as_reference if nat_parity else partial(pairs_as_stream, window_pairs=window_pairs)
    with read_lines(source, file_type) as lines, _without_collector():
        write_lines(output, map(LINES[form], make(lines, config, summary, _Refusals(summary))))
    return summary


def make_curriculum(
    source: str, config: OfflineConfig, output: str, *, file_type: FileType | None = None
) -> None:
    """Run the curriculum over a file of epochs.

    Raises:
        RecordingError: at the first line that is not an epoch.
        StrategyFailed: when the run's strategy breaks its contract.
    """
    with read_lines(source, file_type) as lines:
        results = run_epochs(lines, config.curriculum_learning, config.batching.seed)
        write_lines(output, (orjson.dumps(result) for result in results))


class _Refusals:
    """Names the first refused candidates on stderr."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary

    def __call__(self, line: int, refused: Refused) -> None:
        count = self._summary.refused.total()
        if count <= _SHOWN_REFUSALS:
            note(f"[yellow]line {line}:[/] {escape(str(refused))}")
        if count == _SHOWN_REFUSALS:
            note("[dim]further refusals are only counted[/]")


@contextmanager
def _without_collector() -> Iterator[None]:
    """Nothing here makes cycles, and walking millions of live rows would cost most of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def _user_faults(source: str) -> Iterator[None]:
    try:
        yield
    except (RecordingError, StrategyFailed) as error:
        raise Failure(f"{source}: {error}") from error


def _section(path: str, *sections: OfflineSection) -> OfflineConfig:
    try:
        loaded = load_offline(path, *sections)
    except ConfigError as error:
        raise Failure(str(error)) from error
    for text in loaded.notes:
        note(f"[dim]note:[/] {escape(text)}")
    return loaded.config


def _report(summary: Summary, *, as_json: bool, data_on_stdout: bool) -> None:
    if as_json and not data_on_stdout:
        emit_line(summary.to_dict())
        return
    if as_json:
        note(escape(orjson.dumps(summary.to_dict()).decode()))
        return
    counts = {name: count for name, count in summary.to_dict().items() if isinstance(count, int)}
    rows = [
        *counts.items(),
        *_reasons("skipped", summary.skipped),
        *_reasons("refused", summary.refused),
        *_reasons("dropped", summary.dropped),
    ]
    logs().print(table(["", "count"], rows))


def _reasons(kind: str, counts: dict[str, int]) -> list[tuple[str, int]]:
    return [(f"{kind}: {reason}", count) for reason, count in sorted(counts.items())]
