"""The QA stage: every answer measured, the tuned model's beside the baseline's, and the banks asked."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from tunestream.experiments.inference import RESULTS, infer
from tunestream.experiments.journal import Journal, read_lines
from tunestream.experiments.models import ModelWorker, worker_or_own
from tunestream.experiments.qa.banks import Bank, Judged, judge_bank, read_banks, results_table
from tunestream.experiments.qa.metrics import EMBEDDED, Embeddings, Metric, make_metrics
from tunestream.experiments.qa.scores import Pair, ScoreRow, measure_pair, read_pairs, summarise_scores
from tunestream.experiments.requests import InferenceRequest, QaRequest, StageReport
from tunestream.experiments.results import QaResult, ResultRow
from tunestream.experiments.stages import OnProgress
from tunestream.experiments.store import write_atomically

__all__ = ["DEFAULT_EMBEDDING_MODEL", "SCORES", "evaluate"]

DEFAULT_EMBEDDING_MODEL: Final = "sentence-transformers/all-MiniLM-L6-v2"
SCORES: Final = "scores.jsonl"
_CHUNK: Final = 32  # rows that are measured, and kept, together


def evaluate(request: QaRequest, *, progress: OnProgress, worker: ModelWorker | None = None) -> StageReport:
    """Judge results; see :class:`QaRequest`.

    Args:
        request: what to judge, by which metrics and banks.
        progress: called with the rows and tests that are judged, and with all.
        worker: the process that holds models; used for embeddings and for the banks.

    Raises:
        StageFailed: when a metric, a bank or a model cannot be used. What is judged is kept.
    """
    with worker_or_own(worker) as process:
        embeddings = Embeddings(lambda texts: process.embed(_embedder(request), texts))
        metrics = make_metrics(request.config, embeddings)
        banks = read_banks(Path(request.config.test_suite)) if request.config.test_suite else []
        pairs = read_pairs(request)
        total = _TotalProgress(progress, len(pairs), sum(len(bank.cases) for bank in banks))
        scores = _score(request, pairs, metrics, embeddings, total)
        judged = _ask_banks(request, banks, embeddings, total, process)
    result = summarise_scores(request, pairs, scores, [each.summary for each in judged])
    _write(request.output, scores, judged, result)
    return _report(result)


class _TotalProgress:
    """Reports rows and tests as one total."""

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


def _score(
    request: QaRequest,
    pairs: Sequence[Pair],
    metrics: Mapping[str, Metric],
    embeddings: Embeddings,
    total: _TotalProgress,
) -> list[ScoreRow]:
    """Measure the rows that an interrupted call left, and return all."""
    with Journal(request.output / "scored.jsonl", ScoreRow, lambda row: row.id) as journal:
        waiting = iter([pair for pair in pairs if pair[0].id not in journal.done])
        total.rows(len(journal.done))
        while chunk := list(islice(waiting, _CHUNK)):
            if EMBEDDED in metrics:
                embeddings.prepare(_texts(chunk))
            for pair in chunk:
                journal.add([measure_pair(pair, metrics)])
            total.rows(len(journal.done))
        return [journal.done[tuned.id] for tuned, _ in pairs]


def _texts(pairs: Iterable[Pair]) -> Iterable[str]:
    for tuned, baseline in pairs:
        yield tuned.ground_truth
        yield tuned.predicted
        if baseline is not None:
            yield baseline.predicted


def _ask_banks(
    request: QaRequest,
    banks: Sequence[Bank],
    embeddings: Embeddings,
    total: _TotalProgress,
    worker: ModelWorker,
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
    infer(asked, progress=total.tests, worker=worker)
    answers = iter(read_lines(folder / RESULTS, ResultRow))
    return [_judged(bank, list(islice(answers, len(bank.cases))), embeddings) for bank in banks]


def _judged(bank: Bank, answers: list[ResultRow], embeddings: Embeddings) -> Judged:
    if bank.embeds:
        embeddings.prepare([row.ground_truth for row in answers] + [row.predicted for row in answers])
    return judge_bank(bank, answers, embeddings)


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
