"""Looks at the artifact store and the disks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

from tunestream.artifacts import ArtifactStore, ArtifactUnreachable
from tunestream.overview.facts import DiskFacts, StoreFacts

__all__ = ["read_disks", "read_store"]


def read_store(url: str) -> StoreFacts:
    """Write a small file to the store and delete it again; a local store that is missing stays so."""
    name = f".doctor-{uuid4().hex}"
    try:
        files = ArtifactStore(url).files
        local = files.local("")
        if local is not None and not local.is_dir():
            return StoreFacts(url, _not_to_be_made(local))
        files.write(name, b"written to see whether it can be")
        files.remove(name)
    except (ArtifactUnreachable, ImportError, ValueError) as error:  # no such protocol, or no package for it
        return StoreFacts(url, str(error.__cause__ or error))
    return StoreFacts(url, None)


def read_disks(folders: Iterable[Path]) -> list[DiskFacts]:
    """Return how full the disks of folders are, each disk once; a missing folder's parent counts."""
    found: dict[int, DiskFacts] = {}
    for folder in folders:
        there = _nearest(folder)
        usage = shutil.disk_usage(there)
        found.setdefault(there.stat().st_dev, DiskFacts(str(there), usage.free, usage.total))
    return list(found.values())


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())


def _not_to_be_made(folder: Path) -> str | None:
    """Return why a folder that does not exist cannot be created, None when it can."""
    above = _nearest(folder)
    if not above.is_dir():
        return f"{above} is no directory"
    return None if os.access(above, os.W_OK | os.X_OK) else f"{above} may not be written"
