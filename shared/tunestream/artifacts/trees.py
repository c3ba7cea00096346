"""Folders of files: their manifest, their digest, and how they travel."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Self
from uuid import uuid4

from pydantic import Field, ValidationError, field_validator

from tunestream.artifacts.errors import ArtifactCorrupt
from tunestream.artifacts.files import Files
from tunestream.events.base import Wire
from tunestream.events.ids import content_digest

__all__ = ["Manifest", "TreeFile", "download", "upload"]

MANIFEST = "manifest.json"


class TreeFile(Wire):
    """One file of a folder; ``name`` is its path within it, with "/"."""

    name: str
    sha256: str
    size: int = Field(ge=0, description="bytes")

    @field_validator("name")
    @classmethod
    def _stays_inside(cls, name: str) -> str:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError("must be a path inside the folder")
        return name


class Manifest(Wire):
    """The files of a folder, sorted by name. Written last, it marks the folder as complete."""

    files: list[TreeFile]

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Describe every file under a local folder."""
        return cls(files=[_describe(folder, path) for path in _walk(folder)])

    @classmethod
    def parse(cls, content: bytes, where: str) -> Self:
        """Read a manifest.

        Raises:
            ArtifactCorrupt: when it is not a manifest.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise ArtifactCorrupt(f"the manifest of {where} cannot be read: {error}") from error

    @property
    def digest(self) -> str:
        """The sha256 over names and contents."""
        return content_digest(self.to_json())

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


def upload(folder: Path, target: Files, manifest: Manifest) -> None:
    """Copy a local folder's files, then write the manifest."""
    for file in manifest.files:
        target.upload(folder / file.name, file.name)
    target.write(MANIFEST, manifest.to_json())


def download(source: Files, target: Path, manifest: Manifest) -> None:
    """Copy a folder's files to the local ``target``, which appears complete or not at all.

    Raises:
        ArtifactCorrupt: when a file does not match the manifest.
    """
    partial = target.with_name(f".{target.name}.{uuid4().hex}.partial")
    try:
        partial.mkdir(parents=True)
        for file in manifest.files:
            _fetch(source, partial, file)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fetch(source: Files, target: Path, file: TreeFile) -> None:
    path = target / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    source.download(file.name, path)
    if _sha256(path) != file.sha256:
        raise ArtifactCorrupt(f"{source.locate(file.name)} is damaged: its sha256 is not {file.sha256}")


def _walk(folder: Path) -> Iterator[Path]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return iter(sorted(files, key=lambda path: path.relative_to(folder).as_posix()))


def _describe(folder: Path, path: Path) -> TreeFile:
    name = path.relative_to(folder).as_posix()
    return TreeFile(name=name, sha256=_sha256(path), size=path.stat().st_size)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
