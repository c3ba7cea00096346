"""One stage run in its work folder, which then becomes the finished stage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from tunestream.artifacts.trees import Manifest
from tunestream.experiments.machine import hardware, versions
from tunestream.experiments.manifests import StageManifest
from tunestream.experiments.plan import seeds_of
from tunestream.experiments.stage_runner import StageRunner, Work
from tunestream.experiments.stages import StageFailed
from tunestream.experiments.store import ExperimentStore, clear, write_atomically

__all__ = ["execute"]

_ATTEMPTS: Final = "attempts"


async def execute(work: Work, runner: StageRunner, store: ExperimentStore) -> StageManifest:
    """Run a stage and return the manifest under which it is finished.

    Raises:
        StageFailed: when it cannot be run, or another process runs it.
    """
    work.folder.mkdir(parents=True, exist_ok=True)
    with _alone(work.folder):
        clear(work.folder)
        attempts, started, clock = _count(work.folder), datetime.now(UTC), time.monotonic()
        report = await runner.run(work)
        (work.folder / _ATTEMPTS).unlink()
        manifest = StageManifest(
            stage=work.stage,
            key=work.key,
            inputs=work.inputs,
            outputs=await asyncio.to_thread(_digests, work.folder),
            metrics=report.metrics,
            details=report.details,
            notes=report.notes,
            seeds=seeds_of(work.stage, work.config),
            versions=versions(),
            hardware=await asyncio.to_thread(hardware),
            started=started.isoformat(),
            seconds=time.monotonic() - clock,
            attempts=attempts,
        )
        await asyncio.to_thread(store.finish, manifest)
    return manifest


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from the same stage."""
    lock = FileLock(folder.with_name(f"{folder.name}.lock"), thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        message = "another process runs the same stage; wait for it, then run the experiment again"
        raise StageFailed("busy", message) from None
    try:
        yield
    finally:
        lock.release()


def _count(folder: Path) -> int:
    path = folder / _ATTEMPTS
    attempts = int(path.read_text()) + 1 if path.exists() else 1
    write_atomically(path, str(attempts))
    return attempts


def _digests(folder: Path) -> dict[str, str]:
    files = Manifest.of(folder).files
    return {file.name: file.sha256 for file in files if not file.name.startswith(".")}
