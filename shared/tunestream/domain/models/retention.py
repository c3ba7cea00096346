"""What of the artifact store nobody needs any more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from tunestream.domain.jobs.ledger import JobLedger
from tunestream.domain.jobs.lifecycle import TERMINAL
from tunestream.events.models import ModelVersion
from tunestream.events.training import JobRecord, TrainingBatch

__all__ = ["Garbage", "find_garbage"]


@dataclass(frozen=True, slots=True)
class Garbage:
    """What may be deleted.

    Attributes:
        weights: URIs by the versions whose they are.
        datasets: URIs.
        checkpoints: ids of the jobs whose they are.
        logs: ids of the jobs whose they are.
        elsewhere: URIs of weights that stay with the backends that trained them, by version; only those can
            delete them.
    """

    weights: dict[str, str]
    datasets: list[str]
    checkpoints: list[str]
    logs: list[str]
    elsewhere: dict[str, str]


def find_garbage(
    ledger: JobLedger, batches: Iterable[TrainingBatch], *, keep: int, before: datetime
) -> Garbage:
    """Find what no pointer, no unfinished job and no kept version refers to.

    Kept are of each run the current version, the one before it, those that an automatic rollback may
    return to, the newest ``keep``, and those from which unfinished jobs train. Held-out rows of the stream's
    windows are kept all: later versions are judged on them.

    Args:
        ledger: jobs and versions of all runs.
        batches: that are still in their topic; a trainer may not have seen them.
        keep: newest versions of each run.
        before: what was made or changed since then is kept.
    """
    versions, jobs = ledger.all_versions(), ledger.jobs()
    kept = _kept_versions(ledger, versions, jobs, keep, before)
    weights = {version.artifact.uri for version in versions if version.version in kept}
    deleted = [version for version in versions if version.artifact.uri not in weights]
    in_use = [job for job in jobs if _in_use(job, kept, before)]
    finished = [job for job in jobs if not _in_use(job, kept, before)]
    needed = set(_files(job.batch for job in in_use)) | set(_judging(jobs))
    resumed = {job.resumes for job in jobs if job.status not in TERMINAL}
    known = {(job.run_id, job.batch.batch_id) for job in jobs}
    needed |= set(_files(batch for batch in batches if (batch.run_id, batch.batch_id) not in known))
    return Garbage(
        weights=_weights(version for version in deleted if not version.artifact.is_remote),
        elsewhere=_weights(version for version in deleted if version.artifact.is_remote),
        datasets=sorted(set(_files(job.batch for job in finished)) - needed),
        checkpoints=[job.job_id for job in finished if job.job_id not in resumed],
        logs=[job.job_id for job in finished],
    )


def _weights(versions: Iterable[ModelVersion]) -> dict[str, str]:
    return {version.version: version.artifact.uri for version in versions}


def _kept_versions(
    ledger: JobLedger, versions: list[ModelVersion], jobs: list[JobRecord], keep: int, before: datetime
) -> set[str | None]:
    by_run: defaultdict[str, list[ModelVersion]] = defaultdict(list)
    for version in versions:
        by_run[version.run_id].append(version)
    kept: set[str | None] = {version.version for version in versions if version.created >= before}
    kept |= {job.parent_version for job in jobs if job.status not in TERMINAL}
    for run, of_run in by_run.items():
        newest = sorted(of_run, key=lambda version: version.created, reverse=True)
        kept |= {version.version for version in newest[:keep]}
        pointer = ledger.pointer(run)
        if pointer is not None:
            kept |= {pointer.version, pointer.previous}
        live = ledger.live(run)
        if live is not None:
            kept |= {tenure.version for tenure in live.tenures}
    return kept


def _in_use(job: JobRecord, kept: set[str | None], before: datetime) -> bool:
    made_kept = job.version is not None and job.version in kept
    return job.status not in TERMINAL or job.updated >= before or made_kept


def _files(batches: Iterable[TrainingBatch]) -> Iterator[str]:
    for batch in batches:
        yield batch.train.uri
        if batch.validation is not None:
            yield batch.validation.uri


def _judging(jobs: Iterable[JobRecord]) -> Iterator[str]:
    for job in jobs:
        if job.batch.origin == "stream" and job.batch.validation is not None:
            yield job.batch.validation.uri
