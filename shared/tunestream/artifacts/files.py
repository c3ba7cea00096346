"""Whole files on any fsspec file system, each of which appears complete or not at all."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self
from uuid import uuid4

import fsspec

from tunestream.artifacts.errors import ArtifactMissing, ArtifactUnreachable

__all__ = ["Files"]


class Files:
    """A folder of an fsspec file system; paths are relative to it and use "/".

    A missing file is ``ArtifactMissing``; every other error of the file system is ``ArtifactUnreachable``.

    Args:
        url: a local folder or any fsspec URL, e.g. ``s3://bucket/path`` or ``memory://name``.
    """

    def __init__(self, url: str) -> None:
        filesystem, root = fsspec.core.url_to_fs(url)
        self._fs: Any = filesystem
        self._root: str = root.rstrip("/")
        self._local = "file" in _protocols(filesystem)

    def at(self, folder: str) -> Self:
        """Return the view of a folder within this one."""
        view = object.__new__(type(self))
        view._fs, view._root, view._local = self._fs, self._path(folder), self._local
        return view

    def locate(self, name: str) -> str:
        """Return the full URL of a file or folder, e.g. for a reader without this store."""
        return str(self._fs.unstrip_protocol(self._path(name)))

    def local(self, name: str) -> Path | None:
        """Return the path of a file or folder on this machine, None on another file system."""
        return Path(self._path(name)) if self._local else None

    def exists(self, name: str) -> bool:
        """Return whether a file or folder exists."""
        with self._reaching(name):
            return bool(self._fs.exists(self._path(name)))

    def read(self, name: str) -> bytes:
        """Return a file's content.

        Raises:
            ArtifactMissing: when there is no such file.
        """
        with self._reaching(name):
            return bytes(self._fs.cat_file(self._path(name)))

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file. Object stores do it atomically; a local one by rename after fsync."""
        path = self._path(name)
        with self._reaching(name):
            if self._local:
                _write_local(Path(path), io.BytesIO(content))
            else:
                self._make_parent(path)
                self._fs.pipe_file(path, content)

    def upload(self, source: Path, name: str) -> None:
        """Write a whole file as :meth:`write` does, from a local one of any size."""
        path = self._path(name)
        with self._reaching(name):
            if self._local:
                with source.open("rb") as content:
                    _write_local(Path(path), content)
            else:
                self._make_parent(path)
                self._fs.put_file(str(source), path)

    def download(self, name: str, target: Path) -> None:
        """Copy a file of any size to a local one.

        Raises:
            ArtifactMissing: when there is no such file.
        """
        with self._reaching(name):
            self._fs.get_file(self._path(name), str(target))

    def children(self, folder: str) -> list[str]:
        """Return the names directly in a folder, sorted; none when it does not exist."""
        try:
            with self._reaching(folder):
                paths = self._fs.ls(self._path(folder), detail=False, refresh=True)
        except ArtifactMissing:
            return []
        return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)

    def remove(self, name: str) -> None:
        """Delete a file, or a folder with all that is in it, if it exists."""
        if self.exists(name):
            with contextlib.suppress(ArtifactMissing), self._reaching(name):
                self._fs.rm(self._path(name), recursive=True)

    @contextlib.contextmanager
    def _reaching(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise ArtifactMissing(f"{self.locate(name)} does not exist") from None
        except Exception as error:
            raise ArtifactUnreachable(
                f"{self.locate(name)} cannot be reached: {type(error).__name__}: {error}"
            ) from error

    def _make_parent(self, path: str) -> None:
        self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _write_local(path: Path, content: BinaryIO) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        with partial.open("wb") as file:
            shutil.copyfileobj(content, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
