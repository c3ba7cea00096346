"""Pass/fail tests in CSV files: a prompt a line, and what its answer must be."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tunestream.experiments.qa.metrics import Embeddings, cosine_similarity, exact_match, parse_json
from tunestream.experiments.qa.plugins import nearest
from tunestream.experiments.results import ResultRow, TestBank, TestRow
from tunestream.experiments.stages import StageFailed

__all__ = ["Bank", "Case", "judge_bank", "read_banks", "results_table"]

TYPE: Final = "Test Type"
PROMPT: Final = "prompt"
_THRESHOLD: Final = 0.8  # the toolkit's

_ARGUMENTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "json_valid": (),
        "cosine_similarity": ("ground_truth", "threshold"),
        "exact_match": ("ground_truth",),
    }
)
"""Type of test → the columns that it reads beside the prompt."""


@dataclass(frozen=True, slots=True)
class Case:
    """One test."""

    kind: str
    prompt: str
    ground_truth: str = ""
    threshold: float = _THRESHOLD


@dataclass(frozen=True, slots=True)
class Bank:
    """The tests of one file; its name is the file's path in the suite, without its ending."""

    name: str
    cases: tuple[Case, ...]

    @property
    def embeds(self) -> bool:
        """Whether a test compares embeddings."""
        return any(case.kind == "cosine_similarity" for case in self.cases)

    def questions(self) -> list[TestRow]:
        """Return the prompts as rows to answer."""
        return [
            TestRow(id=f"{self.name}/{number}", prompt=case.prompt, ground_truth=case.ground_truth)
            for number, case in enumerate(self.cases)
        ]


@dataclass(frozen=True, slots=True)
class Judged:
    """A bank with the answers to its tests, and why each failed; None for one that passed."""

    bank: Bank
    answers: Sequence[ResultRow]
    reasons: list[str | None] = field(default_factory=list)

    @property
    def summary(self) -> TestBank:
        """How many passed and failed."""
        passed = self.reasons.count(None)
        return TestBank(name=self.bank.name, passed=passed, failed=len(self.reasons) - passed)


def read_banks(suite: Path) -> list[Bank]:
    """Read every CSV file under a folder.

    Raises:
        StageFailed: naming file, line and remedy.
    """
    files = sorted(suite.rglob("*.csv")) if suite.is_dir() else []
    if not files:
        raise StageFailed("no_test_suite", f"qa.test_suite: there are no CSV files under {suite}")
    banks = [_read(path, "-".join(path.relative_to(suite).with_suffix("").parts)) for path in files]
    names = [bank.name for bank in banks]
    for name in names:
        if names.count(name) > 1:
            raise StageFailed("bad_test_suite", f"qa.test_suite: two files are called {name} in {suite}")
    return banks


def judge_bank(bank: Bank, answers: Sequence[ResultRow], embeddings: Embeddings) -> Judged:
    """Judge the answers to a bank's tests; a prompt without an answer is a failed test."""
    reasons = []
    for case, row in zip(bank.cases, answers, strict=True):
        reasons.append(row.error or _TESTS[case.kind](case, row.predicted, embeddings))
    return Judged(bank, answers, reasons)


def results_table(judged: Judged) -> str:
    """Return the bank's file with the columns Predicted, Result and Reason."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow([TYPE, PROMPT, "ground_truth", "threshold", "Predicted", "Result", "Reason"])
    for case, row, reason in zip(judged.bank.cases, judged.answers, judged.reasons, strict=True):
        arguments = _ARGUMENTS[case.kind]
        writer.writerow(
            [
                case.kind,
                case.prompt,
                case.ground_truth if "ground_truth" in arguments else "",
                case.threshold if "threshold" in arguments else "",
                row.predicted,
                "failed" if reason else "passed",
                reason or "",
            ]
        )
    return table.getvalue()


def _read(path: Path, name: str) -> Bank:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns, lines = list(reader.fieldnames or ()), [(reader.line_num, line) for line in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise StageFailed("bad_test_suite", f"{path} is not a CSV file in UTF-8: {error}") from error
    for column in (TYPE, PROMPT):
        if column not in columns:
            _refuse(path, 1, f"there is no column {column!r}; {nearest(column, columns)}")
    if not lines:
        _refuse(path, 1, "there are no tests in it")
    return Bank(name, tuple(_case(path, number, line) for number, line in lines))


def _case(path: Path, number: int, line: Mapping[str | None, str | list[str] | None]) -> Case:
    values = {str(name): str(value) for name, value in line.items() if name is not None and value is not None}
    kind = values.get(TYPE, "")
    if kind not in _ARGUMENTS:
        _refuse(path, number, f"{TYPE} {kind!r} is unknown; {nearest(kind, list(_ARGUMENTS))}")
    if "ground_truth" in _ARGUMENTS[kind] and "ground_truth" not in values:
        _refuse(path, number, f"{kind} needs the column 'ground_truth'; {nearest('ground_truth', [*values])}")
    threshold = _number(path, number, values.get("threshold") or str(_THRESHOLD))
    return Case(kind, values.get(PROMPT, ""), values.get("ground_truth", ""), threshold)


def _number(path: Path, number: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not -1.0 <= value <= 1.0:
        _refuse(path, number, f"threshold {text!r} must be a number from -1 to 1")
    return value


def _refuse(path: Path, line: int, problem: str) -> None:
    raise StageFailed("bad_test_suite", f"qa.test_suite: {path}:{line}: {problem}")


def _json(case: Case, predicted: str, embeddings: Embeddings) -> str | None:  # noqa: ARG001
    try:
        parse_json(predicted)
    except ValueError as error:
        return f"not JSON: {error}"
    return None


def _alike(case: Case, predicted: str, embeddings: Embeddings) -> str | None:
    found = cosine_similarity(embeddings.of(case.ground_truth), embeddings.of(predicted))
    return None if found >= case.threshold else f"cosine similarity {found:.3f} is below {case.threshold:g}"


def _same(case: Case, predicted: str, embeddings: Embeddings) -> str | None:  # noqa: ARG001
    same = exact_match(prompt=case.prompt, ground_truth=case.ground_truth, predicted=predicted)
    return None if same else "not the ground truth"


_TESTS: Final[Mapping[str, Callable[[Case, str, Embeddings], str | None]]] = MappingProxyType(
    {"json_valid": _json, "cosine_similarity": _alike, "exact_match": _same}
)
