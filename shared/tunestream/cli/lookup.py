"""Jobs, versions and runs by the names that people type: whole, or their beginnings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, TypeVar

import typer

from tunestream.cli.errors import Failure
from tunestream.config.run.run import RunConfig
from tunestream.config.settings import KafkaSettings
from tunestream.domain.jobs.ledger import JobLedger
from tunestream.events.keys import CURRENT, decode_key
from tunestream.events.models import ModelVersion
from tunestream.events.runs import RunPointer, RunRecord
from tunestream.events.training import JobRecord
from tunestream.overview.read.runs import read_ledger
from tunestream.streams.reading import RecordReader, latest_bodies

__all__ = [
    "JobArgument",
    "VersionArgument",
    "applied_runs",
    "by_name",
    "check_run",
    "find_version",
    "no_such_run",
    "read_configs",
    "read_current_config",
    "read_job",
    "read_jobs",
    "read_run_ledger",
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


async def applied_runs(settings: KafkaSettings) -> set[str]:
    """Return the names of the runs that were applied, also of those that this release cannot read."""
    there: dict[bytes, bool] = {}
    async with RecordReader(settings, "runs", from_beginning=True) as reader:
        async for record in reader.to_end():
            there[record.key] = record.value is not None
    keys = (decode_key(key) for key, is_there in there.items() if is_there)
    return {key[0] for key in keys if len(key) == 2 and key[1] == CURRENT}


async def check_run(settings: KafkaSettings, run_id: str) -> None:
    """Refuse the name of a run that was never applied.

    Raises:
        Failure: with the names that are near.
    """
    known = await applied_runs(settings)
    if run_id not in known:
        raise no_such_run(run_id, known)


def no_such_run(run_id: str, known: Collection[str]) -> Failure:
    """Return what is wrong with the name of a run that was never applied.

    Args:
        run_id: the name.
        known: runs that were applied.
    """
    by_letters = {name.casefold(): name for name in sorted(known)}
    near = [by_letters[name] for name in get_close_matches(run_id.casefold(), by_letters)]
    meant = f"Did you mean {', '.join(near)}? " if near else ""
    return Failure(
        f"there is no run {run_id!r}: it was never applied",
        remedy=f"{meant}tunestream run list shows the runs; tunestream run apply FILE makes one",
    )


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


async def read_run_ledger(settings: KafkaSettings, run_id: str | None) -> JobLedger:
    """Return the jobs and versions of a run, or of all.

    Raises:
        Failure: when there is no version and the run was never applied.
    """
    ledger = await read_ledger(settings, run_id)
    if run_id is not None and not ledger.all_versions():
        await check_run(settings, run_id)
    return ledger


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
        raise no_such_run(run_id, await applied_runs(settings))
    return configs["current"]


def _only(kind: type[Found], bodies: Iterable[object]) -> list[Found]:
    return [body for body in bodies if isinstance(body, kind)]
