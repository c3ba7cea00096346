"""Jobs, versions and runs by the names that people type: whole, or their beginnings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, TypeVar

import typer

from tunestream.cli.errors import Failure
from tunestream.config.run.run import RunConfig
from tunestream.config.settings import KafkaSettings
from tunestream.domain.jobs.ledger import JobLedger
from tunestream.events.models import ModelVersion
from tunestream.events.runs import RunPointer, RunRecord
from tunestream.events.training import JobRecord
from tunestream.streams.reading import latest_bodies

__all__ = [
    "JobArgument",
    "VersionArgument",
    "by_name",
    "find_version",
    "read_configs",
    "read_current_config",
    "read_job",
    "read_jobs",
]

Found = TypeVar("Found")
JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="A job's id, or a beginning that no other has.")
]
VersionArgument = Annotated[
    str, typer.Argument(metavar="VERSION", help="A version's id, or a beginning that no other has.")
]


def by_name(known: Mapping[str, Found], name: str, *, kind: str, remedy: str) -> Found:
    """Return what has this name, or alone begins with it.

    Raises:
        Failure: when nothing does, or more than one.
    """
    if name in known:
        return known[name]
    matching = [full for full in known if full.startswith(name)]
    if len(matching) == 1:
        return known[matching[0]]
    problem = f"no {kind} {name}" if not matching else f"{len(matching)} {kind}s begin with {name}"
    raise Failure(problem, remedy=remedy)


async def read_jobs(settings: KafkaSettings, run_id: str | None = None) -> list[JobRecord]:
    """Return the latest record of each job, the oldest job first."""
    bodies = await latest_bodies(settings, "training.jobs", run_id)
    return sorted(_only(JobRecord, bodies), key=lambda job: job.created)


async def read_job(settings: KafkaSettings, name: str) -> JobRecord:
    """Return the latest record of one job.

    Raises:
        Failure: when there is none, or more than one.
    """
    known = {job.job_id: job for job in await read_jobs(settings)}
    return by_name(known, name, kind="job", remedy="tunestream jobs list")


def find_version(ledger: JobLedger, name: str) -> ModelVersion:
    """Return one version.

    Raises:
        Failure: when there is none, or more than one.
    """
    known = {version.version: version for version in ledger.all_versions()}
    return by_name(known, name, kind="version", remedy="tunestream models list")


async def read_configs(settings: KafkaSettings, run_id: str) -> dict[str, RunConfig]:
    """Return a run's configurations by digest; the current one also under ``current``."""
    bodies = await latest_bodies(settings, "runs", run_id)
    configs = {record.digest: RunConfig.from_record(record) for record in _only(RunRecord, bodies)}
    for pointer in _only(RunPointer, bodies):
        configs["current"] = configs[pointer.digest]
    return configs


async def read_current_config(settings: KafkaSettings, run_id: str) -> RunConfig:
    """Return the configuration that new turns of a run open with.

    Raises:
        Failure: when the run was never applied.
    """
    configs = await read_configs(settings, run_id)
    if "current" not in configs:
        raise Failure(f"run {run_id!r} was never applied", remedy="tunestream run apply FILE")
    return configs["current"]


def _only(kind: type[Found], bodies: Iterable[object]) -> list[Found]:
    return [body for body in bodies if isinstance(body, kind)]
