"""The inference stage: every test row is answered, also when a process is killed meanwhile."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from tunestream.events.messages import Prompt
from tunestream.experiments.inference.endpoint import Endpoint
from tunestream.experiments.inference.options import generation_options, idle_settings
from tunestream.experiments.journal import Journal, read_lines
from tunestream.experiments.models import ModelWorker, worker_or_own
from tunestream.experiments.models.protocol import GeneratedAnswer
from tunestream.experiments.requests import InferenceRequest, StageReport
from tunestream.experiments.results import ResultRow, TestRow
from tunestream.experiments.stages import OnProgress, StageFailed
from tunestream.experiments.store import write_atomically

__all__ = ["RESULTS", "infer"]

RESULTS: Final = "results.jsonl"
_HOPELESS: Final = 8  # answers that are all refused: the rest would be too
_HEADER: Final = ("Prompt", "Ground Truth", "Predicted")


def infer(
    request: InferenceRequest, *, progress: OnProgress, worker: ModelWorker | None = None
) -> StageReport:
    """GeneratedAnswer every row of the test; see :class:`InferenceRequest`.

    Args:
        request: what to answer, by which model.
        progress: called with the number of rows that are answered.
        worker: the process that holds models; unused with an endpoint.

    Raises:
        StageFailed: when the model, the endpoint or a setting cannot be used. What is answered is kept.
    """
    rows = _rows(request)
    results = request.output / RESULTS
    if not results.exists():
        with Journal(request.output / "answered.jsonl", ResultRow, lambda row: row.id) as journal:
            answering = _Answering(request, rows, journal, progress)
            notes = answering.by_endpoint() if request.config.endpoint else answering.by_worker(worker)
        _write(request, [answering.answered[row.id] for row in rows])
    else:
        notes = []
    progress(len(rows), len(rows))
    return _report(read_lines(results, ResultRow), notes + idle_settings(request.config))


class _Answering:
    """One call's rows, and what is answered of them.

    The rows are cut into batches that do not depend on what is done already, so that an interrupted call
    ends with the answers of one that was not interrupted.
    """

    def __init__(
        self,
        request: InferenceRequest,
        rows: Sequence[TestRow],
        journal: Journal[ResultRow],
        progress: OnProgress,
    ) -> None:
        self._request = request
        self._rows = rows
        self._journal = journal
        self._progress = progress
        self.answered = dict(journal.done)
        progress(len(self.answered), len(rows))

    def by_worker(self, worker: ModelWorker | None) -> list[str]:
        """Generate here; returns notes on what this machine lacks."""
        options = generation_options(self._request.config)
        if not self._unanswered():
            return []
        with worker_or_own(worker) as process, process.holding(self._request.model) as notes:
            for batch in self._batches():
                if all(row.id in self.answered for row in batch):
                    continue
                prompts = [row.prompt for row in batch]
                seed = _seed_of(self._request.seed, batch[0])
                self._keep(zip(batch, process.generate(prompts, options, seed=seed), strict=True))
        return notes

    def by_endpoint(self) -> list[str]:
        """Ask a server; what it refused is asked again by the next call."""
        try:
            asyncio.run(self._ask())
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        return []

    async def _ask(self) -> None:
        waiting = iter(self._unanswered())
        # The group is left before the client is closed.
        async with (
            Endpoint.open(self._request.config, self._request.model) as endpoint,
            asyncio.TaskGroup() as askers,
        ):
            for _ in range(self._request.config.batch_size):
                askers.create_task(self._ask_some(endpoint, waiting))

    async def _ask_some(self, endpoint: Endpoint, waiting: Iterator[TestRow]) -> None:
        for row in waiting:
            self._keep([(row, await endpoint.ask(row, self._request.seed))])

    def _keep(self, answered: Iterable[tuple[TestRow, GeneratedAnswer]]) -> None:
        rows = [ResultRow(**dict(row), predicted=answer.text, error=answer.error) for row, answer in answered]
        self._journal.add(row for row in rows if not (row.error and self._request.config.endpoint))
        for row in rows:
            self.answered.setdefault(row.id, row)
        found = list(self.answered.values())
        if len(found) >= min(_HOPELESS, len(self._rows)) and all(row.error for row in found):
            raise StageFailed("nothing_answered", _why_nothing(found))
        self._progress(len(found), len(self._rows))

    def _unanswered(self) -> list[TestRow]:
        return [row for row in self._rows if row.id not in self.answered]

    def _batches(self) -> Iterator[list[TestRow]]:
        """Yield rows of about the same length, which need the least padding."""
        ordered = iter(sorted(self._rows, key=lambda row: (len(_text(row.prompt)), row.id)))
        while batch := list(islice(ordered, self._request.config.batch_size)):
            yield batch


def _rows(request: InferenceRequest) -> list[TestRow]:
    rows = read_lines(request.test, TestRow)
    twice = [name for name, count in Counter(row.id for row in rows).items() if count > 1]
    if twice:
        raise StageFailed("bad_test_rows", f"{request.test}: the id {twice[0]!r} comes more than once")
    if not rows:
        raise StageFailed("no_test_rows", "there are no rows to answer: set data.test_size above 0")
    return rows


def _write(request: InferenceRequest, rows: Sequence[ResultRow]) -> None:
    """Write both files, the one that marks the stage as done last."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(_HEADER)
    writer.writerows((_text(row.prompt), row.ground_truth, row.predicted) for row in rows)
    write_atomically(request.output / "results.csv", table.getvalue())
    lines = "".join(row.model_dump_json() + "\n" for row in rows)
    write_atomically(request.output / RESULTS, lines)
    (request.output / "answered.jsonl").unlink(missing_ok=True)


def _report(rows: Sequence[ResultRow], notes: list[str]) -> StageReport:
    reasons = Counter(row.error.partition(":")[0] for row in rows if row.error)
    lost = [f"{count} of {len(rows)} rows have no answer: {reason}" for reason, count in reasons.items()]
    return StageReport(
        metrics={"rows": float(len(rows)), "unanswered": float(sum(reasons.values()))},
        details={"unanswered": dict(reasons)},
        notes=notes + lost,
    )


def _why_nothing(rows: Sequence[ResultRow]) -> str:
    return f"none of the first {len(rows)} rows could be answered, e.g. {rows[0].id}: {rows[0].error}"


def _text(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return prompt
    return json.dumps([message.model_dump(exclude_none=True) for message in prompt], ensure_ascii=False)


def _seed_of(seed: int, first: TestRow) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{first.id}".encode()).digest()[:7])
