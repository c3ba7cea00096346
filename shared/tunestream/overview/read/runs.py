"""The runs that were applied, their jobs and their versions, from the compacted topics."""

from __future__ import annotations

from collections.abc import Iterable

from tunestream.config.run.run import RunConfig
from tunestream.config.settings import KafkaSettings
from tunestream.domain.jobs.ledger import JobLedger
from tunestream.events.live import LiveRecord
from tunestream.events.models import CurrentModel, ModelVersion
from tunestream.events.runs import RunPointer, RunRecord
from tunestream.events.training import JobRecord, TrainingStatusEnum
from tunestream.overview.facts import RunFacts
from tunestream.streams.reading import latest_bodies

__all__ = ["read_configs", "read_ledger", "run_facts"]


async def read_configs(settings: KafkaSettings, run_id: str | None = None) -> list[RunConfig]:
    """Return the current configuration of each run."""
    bodies = await latest_bodies(settings, "runs", run_id)
    known = {(body.run_id, body.digest): body for body in bodies if isinstance(body, RunRecord)}
    pointers = [(body.run_id, body.digest) for body in bodies if isinstance(body, RunPointer)]
    return [RunConfig.from_record(known[pointer]) for pointer in sorted(pointers) if pointer in known]


async def read_ledger(settings: KafkaSettings, run_id: str | None = None) -> JobLedger:
    """Return the jobs and versions as their owners have them."""
    ledger = JobLedger()
    jobs = await latest_bodies(settings, "training.jobs", run_id)
    for body in jobs:
        if isinstance(body, JobRecord):
            ledger.restore_job(body)
        elif isinstance(body, LiveRecord):
            ledger.restore_live(body)
    models = await latest_bodies(settings, "models", run_id)
    ledger.restore_models([body for body in models if isinstance(body, ModelVersion | CurrentModel)])
    return ledger


def run_facts(configs: Iterable[RunConfig], ledger: JobLedger) -> list[RunFacts]:
    """Return the current runs with those of their jobs that failed and that no completed one followed."""
    found = []
    for config in configs:
        failed: list[tuple[str, str]] = []
        jobs = [job for job in ledger.jobs() if job.run_id == config.run_id]
        for job in sorted(jobs, key=lambda job: (job.updated, job.job_id)):
            if job.status is TrainingStatusEnum.COMPLETED:
                failed.clear()
            elif job.status is TrainingStatusEnum.FAILED:
                failed.append((job.job_id, job.message or "no reason was given"))
        found.append(RunFacts(config.run_id, tuple(failed)))
    return found
