"""The first stage: data becomes rows that train and rows that judge, and what is odd about it is reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Final

from pydantic import BaseModel, Field

from tunestream.artifacts import rows_to_jsonl
from tunestream.config.experiment.data import DataConfig
from tunestream.events.dataset import PreferenceRow
from tunestream.events.groups import PreferenceGroup
from tunestream.events.messages import Prompt, text_of
from tunestream.events.trajectories import TrajectoryGroup
from tunestream.experiments.examples import Example, examples_of_groups, examples_of_rows
from tunestream.experiments.recognising import format_of
from tunestream.experiments.sources import read_data
from tunestream.experiments.splitting import Parts, Sizes, SplitImpossible, split
from tunestream.experiments.stages import OnProgress, StageFailed
from tunestream.rows.left_out import LeftOut
from tunestream.rows.reading import Row

__all__ = ["IngestReport", "Lengths", "ingest"]

_REPORT_EVERY: Final = 1000
_NAMED: Final = 5  # ids of leaking rows that are reported


class Lengths(BaseModel):
    """Lengths of texts, in characters."""

    shortest: int
    median: float
    longest: int
    p95: int


class IngestReport(BaseModel):
    """What was found in the data.

    ``left_out`` counts rows by reason, and ``first_left_out`` has the place and field of the first of each;
    ``dropped`` counts what was left out of messages by key; ``format`` is what the columns are where no
    template names them. ``duplicates`` are rows whose prompt and answers were there before; ``leaks`` are
    test rows whose prompt also trains, ``leaking`` some of their ids.
    """

    rows: int
    usable: int
    left_out: dict[str, int] = Field(default_factory=dict)
    first_left_out: dict[str, str] = Field(default_factory=dict)
    dropped: dict[str, int] = Field(default_factory=dict)
    format: str | None = None
    duplicates: int = 0
    train: int = 0
    validation: int = 0
    test: int = 0
    unused: int = 0
    leaks: int = 0
    leaking: list[str] = Field(default_factory=list)
    prompts: Lengths | None = None
    answers: Lengths | None = None

    def notes(self) -> list[str]:
        """Return what people should know: rows left out, repeated rows, test rows that also train."""
        texts = []
        if self.format:
            texts.append(f"the rows are read as {self.format}")
        if self.left_out:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.left_out.items()))
            texts.append(f"{sum(self.left_out.values())} of {self.rows} rows were left out ({reasons})")
            texts += [f"first {reason}: {first}" for reason, first in sorted(self.first_left_out.items())]
        if self.dropped:
            keys = ", ".join(f"{name} ({count})" for name, count in sorted(self.dropped.items()))
            texts.append(f"of messages these keys were dropped: {keys}")
        if self.duplicates:
            texts.append(f"{self.duplicates} rows are repeated; data.deduplicate: true keeps one of each")
        if self.leaks:
            texts.append(
                f"the prompts of {self.leaks} test rows also train, e.g. {', '.join(self.leaking)}: "
                "deduplicate, or set data.group_by to a column that equal prompts share"
            )
        return texts


def ingest(
    data: DataConfig,
    output: Path,
    *,
    groups: Iterable[TrajectoryGroup | PreferenceGroup] | None,
    progress: OnProgress,
) -> IngestReport:
    """Write ``train.jsonl``, ``validation.jsonl``, ``test.jsonl`` and ``report.json``.

    Args:
        data: what to read and how to divide it.
        output: an existing folder.
        groups: a run's trajectories, when ``data`` names a stream.
        progress: called with the number of rows that were read.

    Raises:
        StageFailed: when the data cannot be read, lacks a column or is too little.
    """
    left_out, dropped = LeftOut(), Counter[str]()
    if groups is None:
        if data.is_open:
            data = data.model_copy(update={"format": format_of(data)})
        made = examples_of_rows(_reporting(read_data(data), progress), data, left_out, dropped)
    else:
        made = examples_of_groups(groups, left_out)
    examples, counts = list(made), left_out.counts
    if not examples:
        reasons = "; ".join(
            f"{count} {reason}, first {left_out.first[reason]}" for reason, count in counts.items()
        )
        raise StageFailed("no_rows", f"no row can be used: {reasons or 'there is none'}")
    report = IngestReport(
        rows=len(examples) + counts.total(), usable=0, format=data.format, first_left_out=left_out.first
    )
    kept = _without_repeats(examples)
    report.duplicates = len(examples) - len(kept)
    if data.deduplicate:
        examples = kept
        if report.duplicates:
            counts["duplicate"] = report.duplicates
            report.duplicates = 0
    report.usable, report.left_out, report.dropped = len(examples), dict(counts), dict(dropped)
    parts = _parts(examples, data)
    _describe(report, examples, parts)
    _write(output, examples, parts)
    (output / "report.json").write_text(report.model_dump_json(indent=2), encoding="utf-8")
    return report


def _reporting(rows: Iterable[Row], progress: OnProgress) -> Iterable[Row]:
    for number, row in enumerate(rows):
        if number % _REPORT_EVERY == 0:
            progress(number, 0)
        yield row


def _without_repeats(examples: Sequence[Example]) -> list[Example]:
    first: dict[bytes, Example] = {}
    for example in examples:
        first.setdefault(example.content, example)
    return list(first.values())


def _parts(examples: Sequence[Example], data: DataConfig) -> Parts:
    sizes = Sizes(data.train_size, data.validation_size, data.test_size)
    grouped = data.group_by is not None or data.stream is not None
    try:
        parts = split(
            len(examples),
            sizes,
            data.train_test_split_seed,
            strata=[each.stratum for each in examples] if data.stratify_by else None,
            groups=[each.group for each in examples] if grouped else None,
        )
    except SplitImpossible as error:
        raise StageFailed("too_few_rows", str(error)) from error
    return replace(parts, test=[position for position in parts.test if examples[position].is_good])


def _describe(report: IngestReport, examples: Sequence[Example], parts: Parts) -> None:
    report.train, report.validation, report.test = map(len, (parts.train, parts.validation, parts.test))
    report.unused = len(examples) - report.train - report.validation - report.test
    trained = {examples[position].asked for position in parts.train}
    leaking = [examples[position].id for position in parts.test if examples[position].asked in trained]
    report.leaks, report.leaking = len(leaking), leaking[:_NAMED]
    report.prompts = _lengths([_size(example.prompt) for example in examples])
    report.answers = _lengths([size for example in examples for size in _answers(example)])


def _answers(example: Example) -> list[int]:
    row = example.row
    return (
        [len(example.answer), len(text_of(row.rejected))]
        if isinstance(row, PreferenceRow)
        else [len(example.answer)]
    )


def _size(prompt: Prompt) -> int:
    return len(prompt) if isinstance(prompt, str) else sum(len(message.content) for message in prompt)


def _lengths(sizes: list[int]) -> Lengths:
    ordered = sorted(sizes)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return Lengths(shortest=ordered[0], median=median(ordered), longest=ordered[-1], p95=p95)


def _write(output: Path, examples: Sequence[Example], parts: Parts) -> None:
    for name, positions in (("train", parts.train), ("validation", parts.validation)):
        rows = rows_to_jsonl(examples[position].row for position in positions)
        (output / f"{name}.jsonl").write_bytes(rows)
    tests: Any = (examples[position].test_row.to_json() + b"\n" for position in parts.test)
    (output / "test.jsonl").write_bytes(b"".join(tests))
