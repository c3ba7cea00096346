"""The QA stage: every answer measured, the tuned model's beside the baseline's, and the banks asked."""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from pydantic import Field

from tunestream.events.base import FiniteFloat, Wire
from tunestream.events.trajectories import Prompt
from tunestream.experiments.inference import RESULTS, infer
from tunestream.experiments.interfaces import (
    InferenceRequest,
    MetricEstimate,
    OnProgress,
    QaRequest,
    QaResult,
    ResultRow,
    StageFailed,
    StageReport,
)
from tunestream.experiments.journal import Journal, read_lines
from tunestream.experiments.models import ModelWorker, worker_or_own
from tunestream.experiments.qa.banks import Bank, Judged, judge_bank, read_banks, results_table
from tunestream.experiments.qa.metrics import EMBEDDED, Embeddings, Metric, make_metrics, measure
from tunestream.experiments.qa.statistics import estimate
from tunestream.experiments.store import write_atomically

__all__ = ["DEFAULT_EMBEDDING_MODEL", "SCORES", "ScoreRow", "evaluate"]

DEFAULT_EMBEDDING_MODEL: Final = "sentence-transformers/all-MiniLM-L6-v2"
SCORES: Final = "scores.jsonl"
_CHUNK: Final = 32  # rows that are measured, and kept, together
_SIDES: Final = ("tuned", "baseline")


class ScoreRow(Wire):
    """One line of ``scores.jsonl``; ``failures`` says why ``SIDE.METRIC`` has no value."""

    id: str
    tuned: dict[str, FiniteFloat]
    baseline: dict[str, FiniteFloat] | None = None
    failures: dict[str, str] = Field(default_factory=dict)


Pair = tuple[ResultRow, ResultRow | None]
"""A row's answers by the tuned model and by the baseline."""


def evaluate(request: QaRequest, *, progress: OnProgress, worker: ModelWorker | None = None) -> StageReport:
    """Judge results; see :class:`QaRequest`.

    Args:
        request: what to judge, by which metrics and banks.
        progress: told how many rows and tests are judged.
        worker: the process that holds models; used for embeddings and for the banks.

    Raises:
        StageFailed: when a metric, a bank or a model cannot be used. What is judged is kept.
    """
    with worker_or_own(worker) as process:
        embeddings = Embeddings(lambda texts: process.embed(_embedder(request), texts))
        metrics = make_metrics(request.config, embeddings)
        banks = read_banks(Path(request.config.test_suite)) if request.config.test_suite else []
        pairs = _pairs(request)
        told = _Told(progress, len(pairs), sum(len(bank.cases) for bank in banks))
        scores = _score(request, pairs, metrics, embeddings, told)
        judged = _ask_banks(request, banks, embeddings, told, process)
    result = _result(request, pairs, scores, judged)
    _write(request.output, scores, judged, result)
    return _report(result)


class _Told:
    """Tells of rows and tests as of one sum."""

    def __init__(self, progress: OnProgress, rows: int, tests: int) -> None:
        self._progress = progress
        self._rows = rows
        self._all = rows + tests
        progress(0, self._all)

    def rows(self, done: int) -> None:
        self._progress(done, self._all)

    def tests(self, done: int, _: int) -> None:
        self._progress(self._rows + done, self._all)


def _embedder(request: QaRequest) -> str:
    return request.config.embedding_model or DEFAULT_EMBEDDING_MODEL


def _pairs(request: QaRequest) -> list[Pair]:
    tuned = read_lines(request.tuned, ResultRow)
    if request.baseline is None:
        return [(row, None) for row in tuned]
    baseline = {row.id: row for row in read_lines(request.baseline, ResultRow)}
    if [row.id for row in tuned] != list(baseline):
        raise StageFailed(
            "unpaired_results", f"{request.tuned} and {request.baseline} do not hold the same rows"
        )
    return [(row, baseline[row.id]) for row in tuned]


def _score(
    request: QaRequest,
    pairs: Sequence[Pair],
    metrics: Mapping[str, Metric],
    embeddings: Embeddings,
    told: _Told,
) -> list[ScoreRow]:
    """Measure the rows that an interrupted call left, and return all."""
    with Journal(request.output / "scored.jsonl", ScoreRow, lambda row: row.id) as journal:
        waiting = iter([pair for pair in pairs if pair[0].id not in journal.done])
        told.rows(len(journal.done))
        while chunk := list(islice(waiting, _CHUNK)):
            if EMBEDDED in metrics:
                embeddings.prepare(_texts(chunk))
            for pair in chunk:
                journal.add([_measured(pair, metrics)])
            told.rows(len(journal.done))
        return [journal.done[tuned.id] for tuned, _ in pairs]


def _texts(pairs: Iterable[Pair]) -> Iterable[str]:
    for tuned, baseline in pairs:
        yield tuned.ground_truth
        yield tuned.predicted
        if baseline is not None:
            yield baseline.predicted


def _measured(pair: Pair, metrics: Mapping[str, Metric]) -> ScoreRow:
    values: dict[str, dict[str, float]] = {}
    failures: dict[str, str] = {}
    for side, row in zip(_SIDES, pair, strict=True):
        if row is None:
            continue
        values[side] = {}
        for name, metric in metrics.items():
            found = measure(
                metric, prompt=_text(row.prompt), ground_truth=row.ground_truth, predicted=row.predicted
            )
            if isinstance(found, str):
                failures[f"{side}.{name}"] = found
            else:
                values[side][name] = found
    return ScoreRow(id=pair[0].id, failures=failures, **values)


def _ask_banks(
    request: QaRequest, banks: Sequence[Bank], embeddings: Embeddings, told: _Told, worker: ModelWorker
) -> list[Judged]:
    if not banks:
        return []
    folder = request.output / "banks"
    questions = [row for bank in banks for row in bank.questions()]
    lines = "".join(row.model_dump_json() + "\n" for row in questions)
    write_atomically(folder / "questions.jsonl", lines)
    asked = InferenceRequest(
        test=folder / "questions.jsonl",
        model=request.generator,
        config=request.inference,
        seed=request.seed,
        output=folder,
    )
    infer(asked, progress=told.tests, worker=worker)
    answers = iter(read_lines(folder / RESULTS, ResultRow))
    return [_judged(bank, list(islice(answers, len(bank.cases))), embeddings) for bank in banks]


def _judged(bank: Bank, answers: list[ResultRow], embeddings: Embeddings) -> Judged:
    if bank.embeds:
        embeddings.prepare([row.ground_truth for row in answers] + [row.predicted for row in answers])
    return judge_bank(bank, answers, embeddings)


def _result(
    request: QaRequest, pairs: Sequence[Pair], scores: Sequence[ScoreRow], judged: Sequence[Judged]
) -> QaResult:
    prompts = [_text(tuned.prompt) for tuned, _ in pairs]
    columns: dict[str, dict[str, dict[int, float]]] = {side: defaultdict(dict) for side in _SIDES}
    failures: dict[str, Counter[str]] = defaultdict(Counter)
    for number, row in enumerate(scores):
        for side, values in (("tuned", row.tuned), ("baseline", row.baseline or {})):
            for name, value in values.items():
                columns[side][name][number] = value
        for name, reason in row.failures.items():
            failures[name.partition(".")[2]][reason] += 1

    def estimates(values: Mapping[str, Mapping[int, float]]) -> dict[str, MetricEstimate]:
        return {
            name: estimate(
                list(column.values()),
                [prompts[number] for number in column],
                confidence=request.config.confidence,
                resamples=request.config.resamples,
                seed=request.seed,
            )
            for name, column in values.items()
            if column
        }

    return QaResult(
        tuned=estimates(columns["tuned"]),
        baseline=estimates(columns["baseline"]),
        difference=estimates(_differences(columns["tuned"], columns["baseline"])),
        failures={name: dict(reasons) for name, reasons in failures.items()},
        tests=[each.summary for each in judged],
    )


def _differences(
    tuned: Mapping[str, Mapping[int, float]], baseline: Mapping[str, Mapping[int, float]]
) -> dict[str, dict[int, float]]:
    """Return tuned - baseline for the rows on which both have a value."""
    return {
        name: {number: column[number] - other for number, other in baseline[name].items() if number in column}
        for name, column in tuned.items()
        if name in baseline
    }


def _write(output: Path, scores: Sequence[ScoreRow], judged: Sequence[Judged], result: QaResult) -> None:
    write_atomically(output / SCORES, "".join(row.model_dump_json() + "\n" for row in scores))
    for each in judged:
        write_atomically(output / f"{each.bank.name}_results.csv", results_table(each))
    write_atomically(output / "metrics.json", result)
    shutil.rmtree(output / "banks", ignore_errors=True)
    (output / "scored.jsonl").unlink()


def _report(result: QaResult) -> StageReport:
    failed = [
        f"{name} could not be taken of {count} answers: {reason}"
        for name, reasons in result.failures.items()
        for reason, count in reasons.items()
    ]
    return StageReport(
        metrics={name: found.mean for name, found in result.tuned.items()},
        details={"tests": [bank.model_dump() for bank in result.tests]},
        notes=failed,
    )


def _text(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return prompt
    return json.dumps([message.model_dump(exclude_none=True) for message in prompt], ensure_ascii=False)
