"""From rows of data to examples: templates, chats and preferences."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from itertools import chain
from typing import Any, Final

from tunestream.config.experiment.data import DataConfig, columns_of
from tunestream.domain.gate.dataset_rows import rows_of
from tunestream.events.dataset import DatasetRow, PreferenceRow, ResponseRow
from tunestream.events.groups import PreferenceGroup
from tunestream.events.ids import group_id
from tunestream.events.messages import Prompt, text_of
from tunestream.events.trajectories import TrajectoryGroup
from tunestream.experiments.results import TestRow
from tunestream.experiments.stages import StageFailed
from tunestream.experiments.templates import read_templates
from tunestream.rows.cells import Reading
from tunestream.rows.formats import read_formatted
from tunestream.rows.left_out import LeftOut, Unusable
from tunestream.rows.messages import writable
from tunestream.rows.reading import Row
from tunestream.rows.values import find_surrogate

__all__ = ["Example", "examples_of_groups", "examples_of_rows"]

Values = Mapping[str, Any]

_EXAMPLE_ID: Final = "examples"  # what rows of two answers have in the place of a run's example


@dataclass(frozen=True, slots=True)
class Example:
    """One usable row: what trains, and what is asked and known of it.

    ``id`` is its place in the data; ``stratum`` and ``group`` are values of the columns that the split
    goes by.
    """

    id: str
    row: DatasetRow
    prompt: Prompt
    answer: str
    stratum: object = None
    group: object = None

    @property
    def test_row(self) -> TestRow:
        """The example without its answer in the prompt."""
        return TestRow(id=self.id, prompt=self.prompt, ground_truth=self.answer)

    @property
    def is_good(self) -> bool:
        """Whether the answer is one to learn; a response that is labelled as bad judges nothing."""
        return not isinstance(self.row, ResponseRow) or self.row.label is not False

    @property
    def asked(self) -> bytes:
        """A digest of the prompt."""
        return _digest(self.prompt)

    @property
    def content(self) -> bytes:
        """A digest of prompt and answers."""
        row = self.row
        if isinstance(row, PreferenceRow):
            return _digest([self.prompt, row.chosen, row.rejected])
        return _digest([self.prompt, self.answer, None])


def examples_of_rows(
    rows: Iterable[Row], data: DataConfig, left_out: LeftOut, dropped: Counter[str]
) -> Iterator[Example]:
    """Make an example of each row, counting those that cannot be used by reason.

    Args:
        rows: of the data.
        data: what becomes of their columns.
        left_out: counts by reason, with the first place of each.
        dropped: counts what is left out of messages, by key.

    Raises:
        StageFailed: when the first row lacks a column that the settings name.
    """
    wanted = _columns(data)
    for number, row in enumerate(rows):
        if number == 0:
            _check_columns(wanted, row.values)
        try:
            yield _example(f"row-{number:06d}", row.values, data, wanted, dropped)
        except Unusable as reason:
            left_out.add(reason, row.place)


def examples_of_groups(
    groups: Iterable[TrajectoryGroup | PreferenceGroup], left_out: LeftOut
) -> Iterator[Example]:
    """Make an example of each preference of a run; a prompt is a group of the split."""
    for row in chain.from_iterable(map(rows_of, groups)):
        if isinstance(row, PreferenceRow):
            identifier = f"{row.group_id[:16]}-{_digest([row.chosen, row.rejected]).hex()[:8]}"
            yield Example(identifier, row, row.prompt, text_of(row.chosen), group=_digest(row.prompt).hex())
        else:
            left_out.add(Unusable("episode", f"group {row.group_id} is one of episodes"))


def _columns(data: DataConfig) -> dict[str, str]:
    """Return the columns that are needed, and the setting that names each."""
    templates = ("prompt", "prompt_stub", "chosen", "rejected")
    found = {name: field for field in templates for name in columns_of(getattr(data, field))}
    plain = ("messages", "stratify_by", "group_by")
    return found | {getattr(data, field): field for field in plain if getattr(data, field)}


def _check_columns(wanted: Mapping[str, str], row: Values) -> None:
    columns = [writable(name) for name in row]
    for name, field in wanted.items():
        if name not in row:
            close = get_close_matches(name, columns, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise StageFailed(
                "missing_column",
                f"data.{field}: the data has no column {name!r}; {hint}its columns are {', '.join(columns)}",
            )


def _example(
    name: str, row: Values, data: DataConfig, wanted: Iterable[str], dropped: Counter[str]
) -> Example:
    missing = next((column for column in wanted if column not in row), None)
    if missing is not None:
        raise Unusable("missing_column", f"{missing}: is missing")
    if data.format is not None:
        read = read_formatted(data.format, row, dropped)
    else:
        read = read_templates(row, data, dropped)
    _check(read)
    stratum = row[data.stratify_by] if data.stratify_by else None
    group = row[data.group_by] if data.group_by else None
    return Example(name, _dataset_row(name, read), read.prompt, read.answer, stratum, group)


def _check(read: Reading) -> None:
    if _is_empty(read.prompt):
        raise Unusable("empty_prompt", "prompt: is empty")
    if not read.answer.strip() or (read.rejected is not None and not read.rejected.strip()):
        raise Unusable("empty_answer", "answer: is empty")
    if read.rejected == read.answer:
        raise Unusable("identical_answers", "rejected: is the same as chosen")
    prompt = read.prompt if isinstance(read.prompt, str) else [one.model_dump() for one in read.prompt]
    half = find_surrogate({"prompt": prompt, "answer": read.answer, "rejected": read.rejected})
    if half is not None:
        raise Unusable("lone_surrogate", f"{half[0]}: not text: lone surrogate {half[1]}")


def _dataset_row(name: str, read: Reading) -> DatasetRow:
    if read.rejected is None:
        return ResponseRow(prompt=read.prompt, response=read.answer, label=read.label)
    return _preference(name, read.prompt, read.answer, read.rejected)


def _preference(name: str, prompt: Prompt, chosen: str, rejected: str) -> PreferenceRow:
    content = _digest([prompt, chosen, rejected]).hex()
    return PreferenceRow(
        group_id=group_id("experiment", _EXAMPLE_ID, name, content),
        example_id=_EXAMPLE_ID,
        turn_id=name,
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        chosen_score=1.0,
        rejected_score=0.0,
        reward=1.0,
    )


def _is_empty(prompt: Prompt) -> bool:
    if isinstance(prompt, str):
        return not prompt.strip()
    return not any(message.content.strip() for message in prompt)


def _digest(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, default=lambda message: message.model_dump())
    return sha256(text.encode()).digest()
