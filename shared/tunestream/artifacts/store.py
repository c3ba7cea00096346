"""The content-addressed store.

URIs are relative to the store (``artifact://objects/…``), so that they mean the same on every machine
and survive a move of the store; :meth:`ArtifactStore.locate` gives the full URL. All methods block:
asynchronous callers use ``asyncio.to_thread``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from tunestream.artifacts.errors import ArtifactCorrupt, ArtifactMissing
from tunestream.artifacts.files import Files
from tunestream.artifacts.trees import MANIFEST, Manifest, download, upload
from tunestream.events.ids import content_digest

__all__ = ["ArtifactStore", "StoredDirectory", "StoredObject"]

SCHEME: Final = "artifact://"


class StoredObject(NamedTuple):
    """Where a stored content is; ``size`` in bytes."""

    uri: str
    sha256: str
    size: int


class StoredDirectory(NamedTuple):
    """Where a stored folder is; ``sha256`` covers names and contents, ``size`` in bytes."""

    uri: str
    sha256: str
    size: int


class ArtifactStore:
    """Contents and folders, each under the sha256 of what is in it.

    Writing is idempotent: the same content always gets the same URI, from every writer.

    Args:
        url: a local folder or any fsspec URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.files = Files(url)

    def put_bytes(self, content: bytes) -> StoredObject:
        """Store ``content``; it is complete and durable when this returns."""
        sha256 = content_digest(content)
        path = f"objects/{sha256[:2]}/{sha256}"
        if not self.files.exists(path):
            self.files.write(path, content)
        return StoredObject(SCHEME + path, sha256, len(content))

    def get_bytes(self, uri: str, sha256: str) -> bytes:
        """Return a stored content.

        Raises:
            ArtifactMissing: when the store does not have it.
            ArtifactCorrupt: when the content's sha256 is not ``sha256``.
        """
        content = self.files.read(_path(uri))
        if content_digest(content) != sha256:
            raise ArtifactCorrupt(f"{self.locate(uri)} is damaged: its sha256 is not {sha256}")
        return content

    def put_directory(self, folder: Path) -> StoredDirectory:
        """Store a local folder with all its files; other readers see it complete or not at all."""
        manifest = Manifest.of(folder)
        path = f"trees/{manifest.digest}"
        if not self.files.exists(f"{path}/{MANIFEST}"):
            upload(folder, self.files.at(path), manifest)
        return StoredDirectory(SCHEME + path, manifest.digest, manifest.size)

    def fetch_directory(self, uri: str, sha256: str, target: Path) -> Path:
        """Copy a stored folder to ``target``, which must not exist yet, and return ``target``.

        Raises:
            ArtifactMissing: when the store does not have it, or not completely.
            ArtifactCorrupt: when names or contents are not those of ``sha256``.
        """
        source = self.files.at(_path(uri))
        manifest = Manifest.parse(source.read(MANIFEST), uri)
        if manifest.digest != sha256:
            raise ArtifactCorrupt(f"{self.locate(uri)} is damaged: its sha256 is not {sha256}")
        download(source, target, manifest)
        return target

    def has(self, uri: str) -> bool:
        """Return whether the store has a content or a complete folder; False for a URI of another scheme."""
        if not uri.startswith(SCHEME):
            return False
        path = _path(uri)
        return self.files.exists(f"{path}/{MANIFEST}" if path.startswith("trees/") else path)

    def delete(self, uri: str) -> None:
        """Delete a content or a folder, if it exists; a folder is incomplete from the first moment on."""
        path = _path(uri)
        self.files.remove(f"{path}/{MANIFEST}")
        self.files.remove(path)

    def locate(self, uri: str) -> str:
        """Return the full URL of a stored content or folder, e.g. ``file:///…`` or ``s3://…``."""
        return self.files.locate(_path(uri))

    @property
    def folder(self) -> Path | None:
        """The store's folder, None when it is not on this machine's file system."""
        return self.files.local("")

    def local_path(self, uri: str) -> Path | None:
        """Return the path of a stored content or folder, None when the store is not a local folder."""
        return self.files.local(_path(uri))


def _path(uri: str) -> str:
    path = uri.removeprefix(SCHEME)
    if path == uri or ".." in path.split("/"):
        raise ArtifactMissing(f"{uri!r} is not the URI of an artifact: it must start with {SCHEME}")
    return path
