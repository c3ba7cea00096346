"""From rows of data to examples: templates, chats and preferences."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from string import Formatter
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from tunestream.config.experiment.experiment import DataConfig, columns_of
from tunestream.domain.gate.dataset_rows import split_rows
from tunestream.events.dataset import DatasetRow, PreferenceRow, ResponseRow
from tunestream.events.ids import group_id
from tunestream.events.trajectories import OpenAIMessage, Prompt, TrajectoryGroup
from tunestream.experiments.results import TestRow
from tunestream.experiments.sources import Row
from tunestream.experiments.stages import StageFailed

__all__ = ["Example", "examples_of_groups", "examples_of_rows", "render"]

_EXAMPLE_ID: Final = "examples"  # what rows of two answers have in the place of a run's example
_MESSAGES = TypeAdapter(list[OpenAIMessage])


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
    def asked(self) -> bytes:
        """A digest of the prompt."""
        return _digest(self.prompt)

    @property
    def content(self) -> bytes:
        """A digest of prompt and answers."""
        row = self.row
        rejected = row.rejected if isinstance(row, PreferenceRow) else None
        return _digest([self.prompt, self.answer, rejected])


def render(template: str, row: Row) -> str:
    """Fill a template's columns; what is missing in the data is empty, nested values are JSON."""
    parts = []
    for literal, name, spec, _ in Formatter().parse(template):
        parts.append(literal)
        if name is not None:
            parts.append(_text(row[name], spec or ""))
    return "".join(parts)


def examples_of_rows(rows: Iterable[Row], data: DataConfig, left_out: Counter[str]) -> Iterator[Example]:
    """Make an example of each row, counting those that cannot be used by reason.

    Args:
        rows: of the data.
        data: what becomes of their columns.
        left_out: counts by reason.

    Raises:
        StageFailed: when the first row lacks a column that the templates name.
    """
    wanted = _columns(data)
    for number, row in enumerate(rows):
        if number == 0:
            _check_columns(wanted, row)
        made = _example(f"row-{number:06d}", row, data, wanted)
        if isinstance(made, Example):
            yield made
        else:
            left_out[made] += 1


def examples_of_groups(groups: Iterable[TrajectoryGroup], left_out: Counter[str]) -> Iterator[Example]:
    """Make an example of each preference of a run; a prompt is a group of the split."""
    for row in split_rows(groups, 0.0).train:
        if isinstance(row, PreferenceRow):
            identifier = f"{row.group_id[:16]}-{_digest([row.chosen, row.rejected]).hex()[:8]}"
            yield Example(identifier, row, row.prompt, row.chosen, group=_digest(row.prompt).hex())
        else:
            left_out["episode"] += 1


def _columns(data: DataConfig) -> dict[str, str]:
    """Return the columns that are needed, and the setting that names each."""
    templates = ("prompt", "prompt_stub", "chosen", "rejected")
    found = {name: field for field in templates for name in columns_of(getattr(data, field))}
    plain = ("messages", "stratify_by", "group_by")
    return found | {getattr(data, field): field for field in plain if getattr(data, field)}


def _check_columns(wanted: dict[str, str], row: Row) -> None:
    columns = [str(name) for name in row]
    for name, field in wanted.items():
        if name not in row:
            close = get_close_matches(name, columns, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise StageFailed(
                "missing_column",
                f"data.{field}: the data has no column {name!r}; {hint}its columns are {', '.join(columns)}",
            )


def _example(name: str, row: Row, data: DataConfig, wanted: Iterable[str]) -> Example | str:
    if any(name not in row for name in wanted):
        return "missing_column"
    prompt, answer = _conversation(row, data) if data.messages else _templated(row, data)
    if prompt is None or answer is None:
        return "bad_messages"
    if _is_empty(prompt):
        return "empty_prompt"
    if not answer.strip():
        return "empty_answer"
    made = _dataset_row(name, row, data, prompt, answer)
    if isinstance(made, str):
        return made
    stratum = row[data.stratify_by] if data.stratify_by else None
    group = row[data.group_by] if data.group_by else None
    return Example(name, made, prompt, answer, stratum, group)


def _templated(row: Row, data: DataConfig) -> tuple[str, str]:
    return render(str(data.prompt), row), render(str(data.chosen or data.prompt_stub), row)


def _conversation(row: Row, data: DataConfig) -> tuple[Prompt | None, str | None]:
    value = row[str(data.messages)]
    try:
        messages = _MESSAGES.validate_python(json.loads(value) if isinstance(value, str) else value)
    except (ValidationError, json.JSONDecodeError):
        return None, None
    if data.chosen is not None:
        return messages, render(data.chosen, row)
    if len(messages) < 2 or messages[-1].role != "assistant":
        return None, None
    return messages[:-1], messages[-1].content


def _dataset_row(name: str, row: Row, data: DataConfig, prompt: Prompt, answer: str) -> DatasetRow | str:
    if data.rejected is None:
        return ResponseRow(prompt=prompt, response=answer)
    rejected = render(data.rejected, row)
    if not rejected.strip():
        return "empty_answer"
    if rejected == answer:
        return "identical_answers"
    return _preference(name, prompt, answer, rejected)


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


def _text(value: object, spec: str) -> str:
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return format(value, spec)


def _is_empty(prompt: Prompt) -> bool:
    if isinstance(prompt, str):
        return not prompt.strip()
    return not any(message.content.strip() for message in prompt)


def _digest(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, default=lambda message: message.model_dump())
    return sha256(text.encode()).digest()
