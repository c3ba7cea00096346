"""Training: jobs that failed, base models, model servers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tunestream.overview.facts import BaseModelFacts, RunFacts, ServerFacts
from tunestream.overview.findings import Finding

__all__ = ["judge_base_model", "judge_jobs", "judge_server"]


def judge_jobs(runs: Iterable[RunFacts]) -> list[Finding]:
    """Return whether the jobs of the current runs succeed."""
    known = list(runs)
    failed = list(_failed(known))
    return failed or [Finding.ok("jobs", f"none failed, of {len(known)} runs")]


def _failed(runs: Iterable[RunFacts]) -> Iterator[Finding]:
    for run in runs:
        if run.failed:
            job, message = run.failed[-1]
            count = len(run.failed)
            text = f"{count} failed since one was completed, the latest {job}: {message}"
            yield Finding.fail(f"jobs of {run.run_id}", text, f"tunestream jobs logs {job}")


def judge_base_model(facts: BaseModelFacts) -> Finding:
    """Return whether a run's base model can be loaded."""
    name = f"base model of {facts.run_id}"
    if facts.problem is None:
        return Finding.ok(name, facts.name)
    if not facts.is_here:
        return Finding.warn(name, f"on this machine {facts.problem}; its trainer is elsewhere")
    remedy = "Get the model, or correct model.hf_model_ckpt in the run's file and: tunestream run apply FILE"
    return Finding.fail(name, facts.problem, remedy)


def judge_server(facts: ServerFacts) -> Finding:
    """Return whether a model server follows the promoted version."""
    name = f"model server {facts.server}"
    if facts.in_sync is None:
        return Finding.ok(name, f"run {facts.run_id}: {facts.problem}")
    if facts.in_sync:
        return Finding.ok(name, f"run {facts.run_id}: answers with {facts.desired}")
    text = f"run {facts.run_id}: {facts.problem}, and {facts.desired} is promoted"
    return Finding.fail(
        name, text, f"tunestream models serving {facts.run_id}; the trainer's log has the reason"
    )
