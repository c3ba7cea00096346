"""The content-addressed store.

URIs are relative to the store (``artifact://objects/…``), so that they mean the same on every machine
and survive a move of the store; :meth:`ArtifactStore.locate` gives the full URL. All methods block:
asynchronous callers use ``asyncio.to_thread``.
"""

from __future__ import annotations

from hashlib import sha256
from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Final, NamedTuple

from tunestream.artifacts.errors import ArtifactCorrupt, ArtifactMissing
from tunestream.artifacts.files import Files
from tunestream.artifacts.trees import MANIFEST, Manifest, download, upload
from tunestream.events.ids import content_digest

__all__ = ["ArtifactStore", "ContentWriter", "StoredDirectory", "StoredObject"]

SCHEME: Final = "artifact://"
# A content that is written piece by piece stays in memory up to so many bytes.
_IN_MEMORY: Final = 8 << 20


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
        digest = content_digest(content)
        path = _place_of(digest)
        if not self.files.exists(path):
            self.files.write(path, content)
        return StoredObject(SCHEME + path, digest, len(content))

    def writer(self) -> ContentWriter:
        """Return what stores a content that comes piece by piece."""
        return ContentWriter(self.files)

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


class ContentWriter:
    """Stores a content of any size: it waits in memory, or on this machine's disk once it is large.

    Args:
        files: of the store.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._memory = BytesIO()
        self._disk: IO[bytes] | None = None
        self._digest = sha256()
        self._size = 0

    def write(self, content: bytes) -> None:
        """Add a piece."""
        self._digest.update(content)
        self._size += len(content)
        if self._disk is None and self._size > _IN_MEMORY:
            self._disk = NamedTemporaryFile(prefix="tunestream-")  # noqa: SIM115 - closed by close
            self._disk.write(self._memory.getbuffer())
            self._memory = BytesIO()
        (self._memory if self._disk is None else self._disk).write(content)

    def finish(self) -> StoredObject:
        """Store what was written; it is complete and durable when this returns."""
        digest = self._digest.hexdigest()
        path = _place_of(digest)
        if not self._files.exists(path):
            if self._disk is None:
                self._files.write(path, self._memory.getvalue())
            else:
                self._disk.flush()
                self._files.upload(Path(self._disk.name), path)
        return StoredObject(SCHEME + path, digest, self._size)

    def close(self) -> None:
        """Give up what was not stored."""
        if self._disk is not None:
            self._disk.close()


def _place_of(digest: str) -> str:
    return f"objects/{digest[:2]}/{digest}"


def _path(uri: str) -> str:
    path = uri.removeprefix(SCHEME)
    if path == uri or ".." in path.split("/"):
        raise ArtifactMissing(f"{uri!r} is not the URI of an artifact: it must start with {SCHEME}")
    return path
