"""Versions in a store, and somebody who promotes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.helpers.runs import run_config
from tunestream.artifacts import ArtifactStore
from tunestream.events.models import Artifact, CurrentModel, ModelStatus, ModelVersion
from tunestream.serving import Target, served_name, targets

__all__ = ["Promotions", "until"]


async def until(
    holds: Callable[[], bool | Awaitable[bool]], what: str | Callable[[], str], deadline: float = 180.0
) -> None:
    """Wait until something holds that nobody announces."""
    try:
        async with asyncio.timeout(deadline):
            while not (found if isinstance(found := holds(), bool) else await found):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    except TimeoutError:
        what = what if isinstance(what, str) else what()
        raise AssertionError(f"not within {deadline:.0f} s: {what}") from None


class Promotions:
    """One run as its topics tell it.

    Args:
        store: takes the weights.
        folder: for weights before they are stored.
        servers: the run's serving section.
        weights: an adapter's folder; by default files that only fakes load.
    """

    def __init__(
        self, store: ArtifactStore, folder: Path, *servers: dict[str, Any], weights: Path | None = None
    ) -> None:
        self.changed = asyncio.Event()
        self.store = store
        self.versions: dict[str, ModelVersion] = {}
        self._folder = folder
        self._weights = weights
        self._pointer: CurrentModel | None = None
        self.serve(*servers)

    def targets(self) -> Iterator[Target]:
        if self._pointer is not None:
            yield from targets(self._config, self._pointer, self.versions)

    def serve(self, *servers: dict[str, Any]) -> None:
        """Change the run's serving section."""
        self._config = run_config("run", target_model="player", serving=list(servers))
        self.changed.set()

    def promote(self, name: str) -> str:
        """Make a version current, a new one with weights of its own, and return its served name."""
        if name not in self.versions:
            self.versions[name] = self._make(name)
        before = self._pointer
        for known in self.versions.values():
            if known.status is ModelStatus.PROMOTED:
                self.versions[known.version] = known.model_copy(update={"status": ModelStatus.RETIRED})
        self.versions[name] = self.versions[name].model_copy(update={"status": ModelStatus.PROMOTED})
        self._pointer = CurrentModel(
            run_id="run",
            version=name,
            generation=1 if before is None else before.generation + 1,
            previous=None if before is None else before.version,
        )
        self.changed.set()
        return served_name("player", name)

    def _make(self, name: str) -> ModelVersion:
        folder = self._folder / name
        folder.mkdir(parents=True)
        for file in self._weights.iterdir() if self._weights else ():
            (folder / file.name).write_bytes(file.read_bytes())
        (folder / "note.txt").write_text(name)
        stored = self.store.put_directory(folder)
        return ModelVersion(
            run_id="run",
            version=name,
            number=len(self.versions) + 1,
            base_model="base",
            artifact=Artifact(uri=stored.uri, sha256=stored.sha256, kind="adapter"),
            parent=None,
            job_id=f"job-{name}",
            batch_id=f"batch-{name}",
            config_digest="digest",
            status=ModelStatus.CANDIDATE,
            created=datetime.now(UTC),
        )

    def path(self, name: str) -> str:
        """Return where a version's weights lie."""
        found = self.store.local_path(self.versions[name].artifact.uri)
        assert found is not None
        return str(found)
