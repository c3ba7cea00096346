"""From a version back to the events that made it, and from a turn to the versions that it went into."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from tunestream.artifacts import ArtifactMissing, ArtifactStore, read_rows
from tunestream.config.settings import KafkaSettings
from tunestream.domain.jobs.ledger import JobLedger
from tunestream.domain.models.lineage import FedTurn, ancestry, descendants, turns_of
from tunestream.events.models import ModelVersion
from tunestream.events.training import DatasetFile, JobRecord
from tunestream.events.ttc import CandidateStep, EpisodeStep
from tunestream.streams.reading import RecordReader, stored_events

__all__ = ["Fed", "Lineage", "trace_turn", "trace_version"]

Turns = dict[tuple[str, str], FedTurn]


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a version came from.

    Attributes:
        version: the version.
        ancestors: those that it was trained from, the parent first.
        job: that made it.
        turns: what its dataset holds, in order; None when the dataset was deleted.
    """

    version: ModelVersion
    ancestors: list[str]
    job: JobRecord
    turns: list[FedTurn] | None


@dataclass(frozen=True, slots=True)
class Fed:
    """The versions that a turn went into.

    Attributes:
        direct: that were trained on its rows.
        inherited: that were trained from one of these.
        unknown: whose datasets were deleted.
    """

    direct: list[str]
    inherited: list[str]
    unknown: list[str]


async def trace_version(
    settings: KafkaSettings, store: ArtifactStore, ledger: JobLedger, version: ModelVersion, *, events: bool
) -> Lineage:
    """Return where a version came from.

    Args:
        settings: the broker.
        store: datasets.
        ledger: jobs and versions of the run.
        version: the version.
        events: look for the turns' events; reads ``ttc.candidates`` as far as it is kept.
    """
    job = ledger.job(version.job_id)
    if job is None:
        raise LookupError(f"the job {version.job_id} of version {version.version} is not known")
    turns = await _turns(store, job.batch.train)
    if turns and events:
        await _find_events(settings, version.run_id, turns)
    return Lineage(
        version=version,
        ancestors=list(ancestry(version.parent, ledger.versions(version.run_id))),
        job=job,
        turns=None if turns is None else list(turns.values()),
    )


async def trace_turn(
    store: ArtifactStore, ledger: JobLedger, run_id: str, example_id: str, turn_id: str
) -> Fed:
    """Return the versions of a run that a turn went into; an episode's ``turn_id`` is empty."""
    versions = ledger.versions(run_id)
    direct, unknown = [], []
    for name, version in versions.items():
        job = ledger.job(version.job_id)
        turns = None if job is None else await _turns(store, job.batch.train)
        if turns is None:
            unknown.append(name)
        elif (example_id, turn_id) in turns:
            direct.append(name)
    return Fed(direct, descendants(set(direct), versions), unknown)


async def _turns(store: ArtifactStore, dataset: DatasetFile) -> Turns | None:
    try:
        content = await asyncio.to_thread(store.get_bytes, dataset.uri, dataset.sha256)
    except ArtifactMissing:
        return None
    return turns_of(read_rows(content))


async def _find_events(
    settings: KafkaSettings, run_id: str, turns: Mapping[tuple[str, str], FedTurn]
) -> None:
    async with RecordReader(settings, "ttc.candidates", from_beginning=True) as reader:
        async for stored in stored_events(reader.to_end()):
            body, envelope = stored.body, stored.envelope
            if envelope is None or not isinstance(body, CandidateStep | EpisodeStep):
                continue
            turn_id = body.turn_id if isinstance(body, CandidateStep) else ""
            turn = turns.get((body.example_id, turn_id)) if body.run_id == run_id else None
            if turn is not None and (origin := envelope.extensions.get("tsorigin")):
                turn.events.append(origin)
