"""Which job a trainer runs next, and which waiting ones it should not run at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime

from tunestream.domain.jobs.lifecycle import TERMINAL
from tunestream.domain.models.lineage import ancestry
from tunestream.events.models import ModelVersion
from tunestream.events.training import JobRecord, TrainingBatch, TrainingStatusEnum

__all__ = ["next_job", "overflowing", "policy_lag"]


def next_job(
    jobs: Iterable[JobRecord],
    *,
    served: Mapping[str, int],
    may_run: Callable[[JobRecord], bool] = lambda _: True,
) -> JobRecord | None:
    """Choose the job to run: fair between runs, in order within a run.

    A run's jobs build on each other, so only its oldest unfinished one may run; an attempt that was
    broken off is therefore resumed first.

    Args:
        jobs: any jobs; finished ones are ignored.
        served: a growing number for each run that was served, larger for later.
        may_run: returns whether there is room for a job; a run whose oldest has none waits.
    """
    heads = [queue[0] for queue in _queues(jobs).values() if may_run(queue[0])]
    if not heads:
        return None
    return min(heads, key=lambda job: (served.get(job.run_id, -1), _age(job)))


def overflowing(jobs: Iterable[JobRecord], *, max_queued: int | None) -> list[JobRecord]:
    """Return the oldest waiting jobs of each run beyond its ``max_queued`` newest ones."""
    if max_queued is None:
        return []
    waiting = _queues(job for job in jobs if job.status is TrainingStatusEnum.PENDING)
    return [job for queue in waiting.values() for job in queue[: max(0, len(queue) - max_queued)]]


def policy_lag(batch: TrainingBatch, current: str | None, versions: Mapping[str, ModelVersion]) -> int:
    """Count the parent links between the current version and the oldest one that gave candidates.

    A version of another branch (after a rollback) counts to where the branches part; one that is not
    known counts as the base model; rows without a version count as 0.

    Args:
        batch: what should be trained on.
        current: the run's current version; None for the base model.
        versions: the run's versions by name.
    """
    line = list(ancestry(current, versions))
    return max((_links(name, line, versions) for name in batch.policy_versions), default=0)


def _queues(jobs: Iterable[JobRecord]) -> dict[str, list[JobRecord]]:
    queues: defaultdict[str, list[JobRecord]] = defaultdict(list)
    for job in jobs:
        if job.status not in TERMINAL:
            queues[job.run_id].append(job)
    for queue in queues.values():
        queue.sort(key=_age)
    return queues


def _age(job: JobRecord) -> tuple[bool, datetime, int, str]:
    waiting = job.status is TrainingStatusEnum.PENDING
    return (waiting, job.created, job.batch.epoch, job.job_id)


def _links(name: str, line: Collection[str], versions: Mapping[str, ModelVersion]) -> int:
    shared = next((ancestor for ancestor in ancestry(name, versions) if ancestor in line), None)
    return len(line) if shared is None else list(line).index(shared)
