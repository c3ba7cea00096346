"""Where the weights of versions lie, as servers see them."""

from __future__ import annotations

import asyncio
import shutil
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from tunestream.artifacts import ArtifactCorrupt, ArtifactMissing, ArtifactStore
from tunestream.events.models import ModelVersion
from tunestream.serving.plan import Desired, Target, served_name
from tunestream.serving.servers import ServerFault

__all__ = ["AdapterFolders"]


class AdapterFolders:
    """Paths of versions: in the artifact store when it is a local folder, else copies in a shared one.

    Args:
        store: of weights.
        shared: folder that the servers see too, into which versions are copied; None gives the store's
            own folders.
    """

    def __init__(self, store: ArtifactStore, shared: Path | None) -> None:
        self._store = store
        self._shared = shared
        self._copying: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def desired(self, target: Target) -> Desired:
        """Return what a server should list; earlier versions whose weights are gone are left out.

        Raises:
            ServerFault: when the current version has no weights, or no server could read them.
        """
        own = await self._path(target, target.current)
        if own is None:
            raise ServerFault(
                "no_weights", f"the weights of version {target.current.version} are not in the artifact store"
            )
        current: dict[str, str | None] = {target.name: own}
        if target.server.stable_name:
            current[target.model] = own
        previous: dict[str, str | None] = {}
        for version in target.previous:
            path = await self._path(target, version)
            if path is not None:
                previous[served_name(target.model, version.version)] = path
        return Desired(tuple(current), current | previous, target.owned)

    async def _path(self, target: Target, version: ModelVersion) -> str | None:
        root = self._shared or self._store.folder
        if root is None:
            raise ServerFault(
                "no_weights",
                f"servers cannot read the artifact store at {self._store.url}; set "
                "TUNESTREAM_TRAINER_SERVING_FOLDER to a folder that they share with the trainer",
            )
        async with self._copying[version.version]:
            found = await asyncio.to_thread(self._find, target.run_id, version)
        if found is None or target.server.adapter_root is None:
            return None if found is None else str(found)
        return str(PurePosixPath(target.server.adapter_root, found.relative_to(root.absolute()).as_posix()))

    def _find(self, run_id: str, version: ModelVersion) -> Path | None:
        uri = version.artifact.uri
        if self._shared is None:
            return self._store.local_path(uri) if self._store.has(uri) else None
        copy = self._shared.absolute() / run_id / version.version
        if copy.exists():
            return copy
        try:
            return self._store.fetch_directory(uri, version.artifact.sha256, copy)
        except ArtifactMissing:
            return None
        except ArtifactCorrupt as error:
            raise ServerFault("no_weights", str(error)) from error
        except OSError:
            if copy.exists():  # somebody else made the same copy meanwhile
                return copy
            raise

    async def prune(self, run_id: str, keep: Collection[str]) -> None:
        """Delete the copies of a run's versions other than these."""
        if self._shared is not None:
            await asyncio.to_thread(_prune, self._shared / run_id, set(keep))


def _prune(folder: Path, keep: set[str]) -> None:
    for copy in folder.iterdir() if folder.exists() else ():
        if copy.name not in keep and not copy.name.startswith("."):
            shutil.rmtree(copy, ignore_errors=True)
