"""Experiments and their stages in a folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

from pydantic import BaseModel, ValidationError

from tunestream.experiments.manifests import ExperimentManifest, StageManifest
from tunestream.experiments.stages import Stage

__all__ = ["ExperimentStore", "NoSuchExperiment", "clear", "write_atomically"]

_EXPERIMENT: Final = "experiment.json"
_MANIFEST: Final = "manifest.json"


class NoSuchExperiment(ValueError):
    """A name or id that no experiment has, or more than one."""


class ExperimentStore:
    """What lies under a ``save_dir``; see :mod:`tunestream.experiments.manifests`.

    A stage's folder exists when the stage is complete, and never before.

    Args:
        root: the ``save_dir``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def artifacts(self) -> Path:
        """The folder of the trainer's artifact store."""
        return self.root / "artifacts"

    def experiment_dir(self, experiment: str) -> Path:
        """Return the folder of an experiment by its id."""
        return self.root / "experiments" / experiment

    def stage_dir(self, stage: Stage, key: str) -> Path:
        """Return the folder of a finished stage."""
        return self.root / "stages" / stage / key

    def work_dir(self, stage: Stage, key: str) -> Path:
        """Return the folder in which an unfinished stage works."""
        return self.root / "work" / f"{stage}-{key}"

    def save(self, experiment: ExperimentManifest) -> None:
        """Write an experiment's manifest; readers see the old one or the new one."""
        write_atomically(self.experiment_dir(experiment.id) / _EXPERIMENT, experiment)

    def all(self) -> list[ExperimentManifest]:
        """Return every experiment, the oldest first."""
        found = [self._read(path) for path in self.root.glob(f"experiments/*/{_EXPERIMENT}")]
        return sorted(found, key=lambda each: (each.created, each.id))

    def earlier(self, experiment: str) -> ExperimentManifest | None:
        """Return an experiment by its id, None when it was never run."""
        path = self.experiment_dir(experiment) / _EXPERIMENT
        return self._read(path) if path.exists() else None

    def find(self, name: str) -> ExperimentManifest:
        """Return an experiment by its id, the beginning of its id, or its name.

        Raises:
            NoSuchExperiment: when there is none, or more than one.
        """
        every = self.all()
        found = [each for each in every if each.id == name] or [
            each for each in every if each.id.startswith(name) or each.name == name
        ]
        if len(found) == 1:
            return found[0]
        if found:
            raise NoSuchExperiment(
                f"{name!r} may be {', '.join(each.id for each in found)}; give more of its id"
            )
        known = ", ".join(f"{each.id} ({each.name})" for each in every) or "none yet"
        raise NoSuchExperiment(f"no experiment {name!r} in {self.root}; there are: {known}")

    def has(self, stage: Stage, key: str) -> bool:
        """Return whether a stage is complete."""
        return (self.stage_dir(stage, key) / _MANIFEST).is_file()

    def stage(self, stage: Stage, key: str) -> StageManifest:
        """Return the manifest of a finished stage."""
        path = self.stage_dir(stage, key) / _MANIFEST
        return StageManifest.model_validate_json(path.read_bytes())

    def finish(self, manifest: StageManifest) -> Path:
        """Make a stage's work folder the folder of the finished stage, in one step."""
        work = self.work_dir(manifest.stage, manifest.key)
        write_atomically(work / _MANIFEST, manifest)
        target = self.stage_dir(manifest.stage, manifest.key)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rename(self._doomed())
        work.rename(target)
        shutil.rmtree(self.root / "doomed", ignore_errors=True)
        return target

    def stages(self) -> Iterator[tuple[Stage, str]]:
        """Yield every finished stage."""
        for path in sorted(self.root.glob(f"stages/*/*/{_MANIFEST}")):
            yield Stage(path.parent.parent.name), path.parent.name

    def unused(self, *, but: Collection[str] = ()) -> list[Path]:
        """Return the folders that no experiment's manifest names, and copies of what stages hold.

        Args:
            but: ids of experiments that count as gone.
        """
        used = {
            (stage, state.key)
            for experiment in self.all()
            if experiment.id not in but
            for arm in experiment.arms
            for stage, state in arm.stages.items()
        }
        kept = {self.work_dir(stage, key).name for stage, key in used if key is not None}
        works = [path for path in sorted(self.root.glob("work/*")) if _of(path) not in kept]
        unfinished = any(path.is_dir() and path not in works for path in self.root.glob("work/finetune-*"))
        copies = [] if unfinished or not self.artifacts.exists() else [self.artifacts]
        return [self.stage_dir(*each) for each in self.stages() if each not in used] + works + copies

    def delete(self, path: Path) -> None:
        """Delete a folder; it is gone at once for readers."""
        path.rename(self._doomed())
        shutil.rmtree(self.root / "doomed", ignore_errors=True)

    def _doomed(self) -> Path:
        folder = self.root / "doomed"
        folder.mkdir(exist_ok=True)
        return folder / uuid4().hex

    def _read(self, path: Path) -> ExperimentManifest:
        try:
            return ExperimentManifest.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise NoSuchExperiment(
                f"{path} was written by another version: {error.errors()[0]['msg']}"
            ) from error


def _of(path: Path) -> str:
    return path.name.removesuffix(".lock")


def clear(work: Path) -> None:
    """Remove what a process left that was killed in the middle of a write."""
    for path in (work / _MANIFEST, *work.glob(".*")):
        path.unlink(missing_ok=True)


def write_atomically(path: Path, body: BaseModel | str) -> None:
    """Write a file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid4().hex}")
    text = body if isinstance(body, str) else body.model_dump_json(indent=2)
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
