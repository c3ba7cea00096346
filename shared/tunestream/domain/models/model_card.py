"""The model card that goes with an exported version."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tunestream.events.models import Evaluation, EvaluatorVerdict, ModelVersion
from tunestream.events.training import JobRecord

__all__ = ["model_card"]


def model_card(version: ModelVersion, job: JobRecord, ancestors: Sequence[str], *, merged: bool) -> str:
    """Return a version's card as Markdown, with the front matter that model hubs read.

    Args:
        version: the version.
        job: that made it.
        ancestors: the versions that it was trained from, the parent first.
        merged: the weights stand alone; else they are as they were stored.
    """
    alone = merged or version.artifact.kind == "full"
    return "\n".join(
        [
            *_front_matter(version, alone=alone),
            f"# {version.run_id}, version {version.number}",
            "",
            f"{'Weights' if alone else 'A PEFT adapter'} trained by tunestream from `{version.base_model}`.",
            *_table("Lineage", _lineage(version, job, ancestors)),
            *_table("Metrics", ((name, f"{value:g}") for name, value in sorted(version.metrics.items()))),
            *_table("Evaluation", _evaluation(version.evaluation)),
            "",
            "## Licence",
            "",
            f"To be filled in: what `{version.base_model}` and the training data ask of derived weights.",
            "",
        ]
    )


def _front_matter(version: ModelVersion, *, alone: bool) -> list[str]:
    library = "transformers" if alone else "peft"
    quoted = version.base_model.replace("'", "''")
    return ["---", f"base_model: '{quoted}'", f"library_name: {library}", "license: other", "---", ""]


def _lineage(version: ModelVersion, job: JobRecord, ancestors: Sequence[str]) -> Iterator[tuple[str, object]]:
    yield "version", version.version
    if version.artifact.is_remote:
        yield "weights", version.artifact.uri
    else:
        yield "weights (sha256)", version.artifact.sha256
    yield "trained from", ", ".join(ancestors) or "the base model"
    yield "objective", job.batch.objective
    yield "job", version.job_id
    yield "batch", version.batch_id
    yield "rows", job.batch.train.rows
    yield "dataset (sha256)", job.batch.train.sha256
    yield "configuration", version.config_digest
    yield "made", version.created.isoformat()


def _evaluation(evaluation: Evaluation | None) -> Iterator[tuple[str, object]]:
    if evaluation is None:
        yield "verdict", "not evaluated"
        return
    yield "verdict", evaluation.verdict
    yield "held-out rows", evaluation.items
    if evaluation.difference is not None:
        yield "difference to the version before", f"{evaluation.difference:g}"
        yield "interval", f"{evaluation.low:g} to {evaluation.high:g}"
    for one in evaluation.evaluators:
        yield f"evaluator {one.name}", _of_evaluator(one)


def _of_evaluator(verdict: EvaluatorVerdict) -> str:
    if verdict.low is None or verdict.high is None:
        return f"{verdict.verdict}{f': {verdict.reason}' if verdict.reason else ''}"
    return f"{verdict.verdict}: {verdict.difference:g}, {verdict.low:g} to {verdict.high:g}"


def _table(title: str, rows: Iterator[tuple[str, object]]) -> list[str]:
    lines = [f"| {name} | {value} |" for name, value in rows]
    return ["", f"## {title}", "", "| what | value |", "| --- | --- |", *lines]
