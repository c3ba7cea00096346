"""``tunestream models export`` and ``gc``: weights that leave the artifact store."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from tunestream.artifacts import ArtifactStore, CheckpointStore, LogStore
from tunestream.cli.brokers import BrokersOption, broker_settings
from tunestream.cli.errors import Failure
from tunestream.cli.extras import check_extra
from tunestream.cli.lookup import VersionArgument, find_version
from tunestream.cli.output import DryRunOption, JsonOption, emit, note
from tunestream.config.run.durations import parse_duration
from tunestream.config.settings import KafkaSettings, StoreSettings
from tunestream.domain.jobs.ledger import JobLedger
from tunestream.domain.models.lineage import ancestry
from tunestream.domain.models.model_card import model_card
from tunestream.domain.models.retention import Garbage, find_garbage
from tunestream.events.models import ModelVersion
from tunestream.events.training import TrainingBatch
from tunestream.overview.read.runs import read_ledger
from tunestream.streams.reading import RecordReader, stored_events

__all__ = ["export", "gc", "merge"]


def export(
    version: VersionArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder; it must not exist.")],
    merged: Annotated[
        bool, typer.Option("--merged", help="Weights that stand alone: base and adapter in one.")
    ] = False,
    base: Annotated[
        str | None, typer.Option("--base", metavar="MODEL", help="Where the base is here; with --merged.")
    ] = None,
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a version with its model card to a folder, as PEFT and transformers read it."""
    if folder.exists():
        raise Failure(f"{folder} exists already")
    ledger = asyncio.run(read_ledger(broker_settings(brokers)))
    found = find_version(ledger, version)
    if found.artifact.is_remote:
        raise Failure(
            f"the weights of version {found.version} stay with the backend that trained them: "
            f"{found.artifact.uri}",
            remedy="Get them there: the artifact store has no copy.",
        )
    store = ArtifactStore(StoreSettings().artifacts)
    with tempfile.TemporaryDirectory(dir=_parent(folder)) as scratch:
        ready = store.fetch_directory(found.artifact.uri, found.artifact.sha256, Path(scratch) / "stored")
        if merged and found.artifact.kind == "adapter":
            ready = merge(base or found.base_model, ready, Path(scratch) / "merged")
        (ready / "README.md").write_text(_card(ledger, found, merged=merged), encoding="utf-8")
        ready.rename(folder)
    if as_json:
        emit({"version": found.version, "folder": str(folder), "kind": found.artifact.kind, "merged": merged})
    else:
        note(f"version {found.version} is in {folder}")


def _parent(folder: Path) -> Path:
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    return folder.absolute().parent


def _card(ledger: JobLedger, version: ModelVersion, *, merged: bool) -> str:
    job = ledger.job(version.job_id)
    if job is None:
        raise Failure(f"the job {version.job_id} of version {version.version} is not known")
    ancestors = list(ancestry(version.parent, ledger.versions(version.run_id)))
    return model_card(version, job, ancestors, merged=merged)


def merge(base: str, adapter: Path, target: Path) -> Path:
    """Merge an adapter into its base, in a process of its own: this one stays without torch."""
    check_extra("trl", "torch", "transformers", "peft")
    command = [sys.executable, "-m", "tunestream.trainers.trl.merge", base, str(adapter), str(target)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise Failure(
            f"the adapter cannot be merged: {ended.stderr.strip().splitlines()[-1:] or ended.returncode}"
        )
    return target


def gc(
    keep: Annotated[int, typer.Option("--keep", min=0, help="Newest versions of each run that stay.")] = 10,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="TIME", help="Delete only what is older than this.")
    ] = "1d",
    dry_run: DryRunOption = False,
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete weights, datasets, checkpoints and logs that nothing refers to.

    The current version of each run, the one before it, versions that unfinished jobs train from, and all
    that these were trained on stay, and so do rows that the stream holds out: versions to come are judged
    on them. What was deleted cannot be promoted or submitted again.
    """
    settings = broker_settings(brokers)
    store = ArtifactStore(StoreSettings().artifacts)
    found = _stored(store, asyncio.run(_find(settings, keep, older_than)))
    if not dry_run:
        _delete(store, found)
    if as_json:
        emit(asdict(found) | {"dry_run": dry_run})
        return
    note(
        f"{'would delete' if dry_run else 'deleted'} the weights of {len(found.weights)} versions, "
        f"{len(found.datasets)} datasets, the checkpoints of {len(found.checkpoints)} jobs, the logs of "
        f"{len(found.logs)}"
    )
    if found.elsewhere:
        note(f"the weights of {len(found.elsewhere)} versions stay with their backends: delete them there")


async def _find(settings: KafkaSettings, keep: int, older_than: str) -> Garbage:
    try:
        before = datetime.now(UTC) - parse_duration(older_than)
    except ValueError as error:
        raise Failure(f"--older-than: {error}") from error
    return find_garbage(await read_ledger(settings), await _batches(settings), keep=keep, before=before)


async def _batches(settings: KafkaSettings) -> list[TrainingBatch]:
    async with RecordReader(settings, "training.batches", from_beginning=True) as reader:
        bodies = [stored.body async for stored in stored_events(reader.to_end())]
    return [body for body in bodies if isinstance(body, TrainingBatch)]


def _stored(store: ArtifactStore, garbage: Garbage) -> Garbage:
    """Leave out what is not there any more."""
    return Garbage(
        weights={version: uri for version, uri in garbage.weights.items() if store.has(uri)},
        datasets=[uri for uri in garbage.datasets if store.has(uri)],
        checkpoints=[job for job in garbage.checkpoints if CheckpointStore(store, job).exist()],
        logs=[job for job in garbage.logs if LogStore(store, job).exist()],
        elsewhere=garbage.elsewhere,
    )


def _delete(store: ArtifactStore, garbage: Garbage) -> None:
    for uri in [*garbage.weights.values(), *garbage.datasets]:
        store.delete(uri)
    for job in garbage.checkpoints:
        CheckpointStore(store, job).delete()
    for job in garbage.logs:
        LogStore(store, job).delete()
