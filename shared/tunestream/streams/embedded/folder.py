"""The data folder of an embedded broker: who owns it, what it holds, which process serves it.

Layout: ``identity.json`` (cluster id, Kafka version, ports), ``server.properties``, ``broker.log``,
``broker.pid``, ``owner.lock`` and Kafka's own records in ``records/``.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import filelock
import psutil
from pydantic import StringConstraints, TypeAdapter, ValidationError

from tunestream.processes import ProcessRecord
from tunestream.streams.embedded.errors import DataFolderInUseError, DataFolderVersionError
from tunestream.streams.embedded.jars import KAFKA_VERSION

__all__ = ["BrokerIdentity", "DataFolder"]

Stored = TypeVar("Stored")
Version = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)*$")]


@dataclass(frozen=True, slots=True)
class BrokerIdentity:
    """What a data folder's broker keeps over restarts.

    Attributes:
        cluster_id: Kafka's id of the cluster, given once.
        kafka_version: the newest Kafka that has written the folder.
        port: where clients last found the broker.
        controller_port: where it last found itself.
    """

    cluster_id: str
    kafka_version: Version
    port: int
    controller_port: int


class DataFolder:
    """One folder, owned by at most one live process.

    Args:
        path: created when it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records = path / "records"
        self.log = path / "broker.log"
        self.properties = path / "server.properties"
        self._identity = path / "identity.json"
        self._pid = path / "broker.pid"
        self._lock = filelock.FileLock(path / "owner.lock", thread_local=False)
        self._owner = path / "owner.json"

    def acquire(self) -> None:
        """Take ownership; the system gives it back when this process ends, however it ends.

        Raises:
            DataFolderInUseError: when another owner lives.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise DataFolderInUseError(self.path, self._describe_owner()) from error
        _write(self._owner, ProcessRecord.of(os.getpid()))

    def release(self) -> None:
        """Give ownership back."""
        self._lock.release()

    def _describe_owner(self) -> str:
        owner = self._read(self._owner, ProcessRecord)
        return f"the live process {owner.pid}" if owner else "another live process"

    def _read(self, path: Path, kind: type[Stored]) -> Stored | None:
        if not path.exists():
            return None
        try:
            return TypeAdapter(kind).validate_json(path.read_bytes())
        except ValidationError as error:
            problem = f"was written by another version of tunestream: {path.name} is not understood"
            raise DataFolderVersionError(self.path, problem) from error

    @property
    def is_formatted(self) -> bool:
        """Whether Kafka has formatted its part of the folder."""
        return (self.records / "meta.properties").exists()

    @property
    def is_unclean(self) -> bool:
        """Whether Kafka did not come to close its records."""
        return self.is_formatted and not (self.records / ".kafka_cleanshutdown").exists()

    def read_identity(self) -> BrokerIdentity | None:
        """Return what the folder's broker is, None for a new folder.

        Raises:
            DataFolderVersionError: when a newer Kafka, or something unknown, has written the folder.
        """
        identity = self._read(self._identity, BrokerIdentity)
        if identity is None and self.is_formatted:
            raise DataFolderVersionError(self.path, "was formatted by something else than tunestream")
        if identity and _order(identity.kafka_version) > _order(KAFKA_VERSION):
            raise DataFolderVersionError(
                self.path, f"was written by Kafka {identity.kafka_version}; this is Kafka {KAFKA_VERSION}"
            )
        return identity

    def write_identity(self, identity: BrokerIdentity) -> None:
        """Store what the folder's broker is."""
        _write(self._identity, identity)

    def write_broker(self, pid: int) -> None:
        """Note which process serves the folder."""
        _write(self._pid, ProcessRecord.of(pid))

    def forget_broker(self) -> None:
        """Note that no process serves the folder any more."""
        self._pid.unlink(missing_ok=True)

    def find_broker(self) -> psutil.Process | None:
        """Return the live process that serves the folder, if any."""
        record = self._read(self._pid, ProcessRecord)
        return record.find() if record else None

    def rotate_log(self) -> None:
        """Begin a new log and keep the previous one beside it."""
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines of the broker's log."""
        return "\n".join(self.log_text().splitlines()[-lines:])

    def log_text(self) -> str:
        """Return the broker's log."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _write(path: Path, content: BrokerIdentity | ProcessRecord) -> None:
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(asdict(content)), encoding="utf-8")
    draft.replace(path)
