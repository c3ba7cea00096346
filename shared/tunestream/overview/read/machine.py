"""Looks at the artifact store and the disks."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

from tunestream.artifacts import ArtifactStore, ArtifactUnreachable
from tunestream.overview.facts import DiskFacts, StoreFacts

__all__ = ["read_disks", "read_store"]


def read_store(url: str) -> StoreFacts:
    """Write a small file to the store and delete it again."""
    name = f".doctor-{uuid4().hex}"
    try:
        files = ArtifactStore(url).files
        files.write(name, b"written to see whether it can be")
        files.remove(name)
    except (ArtifactUnreachable, ImportError, ValueError) as error:  # no such protocol, or no package for it
        return StoreFacts(url, str(error.__cause__ or error))
    return StoreFacts(url, None)


def read_disks(folders: Iterable[Path]) -> list[DiskFacts]:
    """Return how full the disks of folders are, each disk once; a missing folder's parent counts."""
    found: dict[int, DiskFacts] = {}
    for folder in folders:
        there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        usage = shutil.disk_usage(there)
        found.setdefault(there.stat().st_dev, DiskFacts(str(there), usage.free, usage.total))
    return list(found.values())
