"""The release before this one, from the repository's history, beside the one under test."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.helpers.services import ServiceProcess
from tunestream.config.settings import KafkaSettings

__all__ = ["Release", "change", "release_before", "run_as"]

BEFORE: Final = "dec7bc63e342edc17dabd2731bec34f37a38c442"
_ROOT: Final = Path(__file__).parents[2]
Release = Mapping[str, str]
"""The environment of a process that runs a release; empty for the one under test."""


def release_before(folder: Path) -> Release:
    """Return the release before, unpacked into a folder; skips the test where the history lacks it."""
    archive = subprocess.run(
        ["git", "-C", str(_ROOT), "archive", BEFORE, "shared", "services"], capture_output=True, check=False
    )
    if archive.returncode:
        reason = f"the history has no {BEFORE}, a shallow clone perhaps: {archive.stderr.decode().strip()}"
        print(reason)
        pytest.skip(reason)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return {"PYTHONPATH": os.pathsep.join(str(folder / part) for part in ("shared", "services"))}


def run_as(release: Release, kafka: KafkaSettings, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `tunestream` of a release; its exit code is the caller's to look at."""
    settings = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "TUNESTREAM_KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
    }
    return subprocess.run(
        [sys.executable, "-P", "-m", "tunestream", *map(str, arguments)],
        env=os.environ | settings | dict(release),
        capture_output=True,
        text=True,
        check=False,
    )


async def change(replica: ServiceProcess, release: Release) -> None:
    """Have a replica end in good order and come back as a release."""
    await asyncio.to_thread(replica.stop)
    replica.env = release
    replica.start()
    await replica.ready()
