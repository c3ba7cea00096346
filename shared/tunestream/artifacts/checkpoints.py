"""Checkpoints of jobs: ``checkpoints/<job>/<attempt>/<step>/``.

A checkpoint exists from the moment its manifest does, which is written last. An attempt writes only
under its own number, so that a worker that lost its job cannot spoil the work of the next one.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tunestream.artifacts.errors import ArtifactError
from tunestream.artifacts.files import Files
from tunestream.artifacts.store import ArtifactStore
from tunestream.artifacts.trees import MANIFEST, Manifest, download, upload

__all__ = ["CheckpointStore"]


class CheckpointStore:
    """The checkpoints of one job.

    Args:
        store: where they are kept.
        job_id: the job; must be usable as a file name.
    """

    def __init__(self, store: ArtifactStore, job_id: str) -> None:
        self._name = f"checkpoints/{job_id}"
        self._store = store.files

    def publish(self, folder: Path, *, attempt: int, step: int) -> None:
        """Store a local checkpoint; the earlier ones of the same attempt are deleted afterwards."""
        upload(folder, self._folder(attempt, step), Manifest.of(folder))
        for earlier in self._steps(attempt):
            if earlier < step:
                self._store.remove(f"{self._name}/{attempt}/{earlier}")

    def complete(self, *, before_attempt: int) -> list[tuple[int, int]]:
        """Return (attempt, step) of the complete checkpoints of earlier attempts, the furthest first."""
        attempts = [number for number in self._numbers(self._name) if number < before_attempt]
        found = [(attempt, step) for attempt in attempts for step in self._steps(attempt)]
        return sorted(found, key=lambda one: (one[1], one[0]), reverse=True)

    def fetch(self, target: Path, *, attempt: int, step: int) -> Path:
        """Copy a checkpoint to the local ``target``, which must not exist yet.

        Raises:
            ArtifactMissing: when it is not there.
            ArtifactCorrupt: when a file is damaged.
        """
        source = self._folder(attempt, step)
        manifest = Manifest.parse(source.read(MANIFEST), f"checkpoint {attempt}/{step}")
        download(source, target, manifest)
        return target

    def take_over(self, other: CheckpointStore) -> int | None:
        """Move the furthest complete checkpoint of another job here, as one of an attempt 0.

        Broken off and called again it finishes its work.

        Returns:
            Its step; None when the other job has none that can be used.
        """
        for attempt, step in other.complete(before_attempt=sys.maxsize):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    copy = other.fetch(Path(folder) / "checkpoint", attempt=attempt, step=step)
                except ArtifactError:
                    continue  # one further back gives the same weights later
                self.publish(copy, attempt=0, step=step)
            other.delete()
            return step
        return None

    def exist(self) -> bool:
        """Return whether anything of the job is stored, complete or not."""
        return self._store.exists(self._name)

    def delete(self) -> None:
        """Delete all checkpoints of the job."""
        self._store.remove(self._name)

    def _folder(self, attempt: int, step: int) -> Files:
        return self._store.at(f"{self._name}/{attempt}/{step}")

    def _steps(self, attempt: int) -> list[int]:
        folder = f"{self._name}/{attempt}"
        return [step for step in self._numbers(folder) if self._is_complete(attempt, step)]

    def _is_complete(self, attempt: int, step: int) -> bool:
        return self._folder(attempt, step).exists(MANIFEST)

    def _numbers(self, folder: str) -> list[int]:
        return [int(name) for name in self._store.children(folder) if name.isdecimal()]
