"""A real Apache Kafka as a child process: started, restarted, stopped, never left behind."""

from __future__ import annotations

import asyncio
import atexit
import base64
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil
import structlog

from tunestream.streams.embedded.archive import with_archive
from tunestream.streams.embedded.errors import BrokerDiedError, PortTakenError, StartTimeoutError
from tunestream.streams.embedded.fencing import fence
from tunestream.streams.embedded.folder import BrokerIdentity, DataFolder
from tunestream.streams.embedded.jars import KAFKA_VERSION, class_path
from tunestream.streams.embedded.java import Guard, Java, end, format_records, launch
from tunestream.streams.embedded.ports import HOST, answers, free_port, is_free
from tunestream.streams.embedded.properties import controller_properties, server_properties

__all__ = ["DEFAULT_DATA_FOLDER", "EmbeddedKafka"]

DEFAULT_DATA_FOLDER: Final = Path(".tunestream/kafka")

_POLL_SECONDS: Final = 0.05

_log = structlog.get_logger(__name__)


class EmbeddedKafka:
    """One Kafka broker on this machine, with its records in a folder that survives restarts.

    A context manager, blocking or asynchronous. The broker ends with the block, at the latest with
    this process, however that ends; the thread that started it may end before. Should anything be left,
    the next start on the same folder ends it.
    A folder keeps its cluster id and, while nobody else takes them, its ports.

    Args:
        data: the data folder; created when missing.
        port: for clients, on 127.0.0.1; None takes the folder's last one, or a free one.
        first_port: what a new folder takes while it is free and ``port`` is None.
        start_timeout: seconds that the context manager gives the broker to answer.

    Example:
        ```python
        with EmbeddedKafka() as kafka:
            print(kafka.bootstrap_servers)
        ```
    """

    def __init__(
        self,
        data: Path | str = DEFAULT_DATA_FOLDER,
        *,
        port: int | None = None,
        first_port: int | None = None,
        start_timeout: float = 60.0,
    ) -> None:
        self._folder = DataFolder(Path(data).resolve())
        self._asked_port = port
        self._first_port = first_port
        self._missed_port: int | None = None
        self._start_timeout = start_timeout
        self._identity: BrokerIdentity | None = None
        self._process: psutil.Popen | None = None
        self._guard: Guard | None = None

    @property
    def data(self) -> Path:
        """The data folder, absolute."""
        return self._folder.path

    @property
    def log(self) -> Path:
        """The broker's log file."""
        return self._folder.log

    @property
    def bootstrap_servers(self) -> str:
        """What clients connect to, once the broker has been started."""
        return f"{HOST}:{self._known.port}"

    @property
    def missed_port(self) -> int | None:
        """The port that it would have taken, had no other process had it; None when it has it."""
        return self._missed_port

    @property
    def cluster_id(self) -> str:
        """Kafka's id of the cluster, once the broker has been started."""
        return self._known.cluster_id

    @property
    def _known(self) -> BrokerIdentity:
        if self._identity is None:
            raise RuntimeError("the embedded broker has not been started yet")
        return self._identity

    @property
    def pid(self) -> int | None:
        """The broker's process, None while there is none."""
        return self._process.pid if self._process else None

    @property
    def is_running(self) -> bool:
        """Whether the broker's process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout: float | None = None) -> None:
        """Start the broker and return when it answers; a running one is left alone.

        Args:
            timeout: seconds for the broker to answer; jars, their archive and formatting come on top.

        Raises:
            JarsUnavailableError: when Kafka's jars are not here and cannot be fetched.
            PortTakenError: when another process has the port that was asked for.
            DataFolderInUseError: when another live process has its broker on the folder.
            DataFolderVersionError: when a newer Kafka, or something unknown, has written the folder.
            BrokerDiedError: when the broker ends by itself.
            StartTimeoutError: when it does not answer in time.
        """
        if self.is_running:
            return
        self._folder.acquire()
        atexit.register(self.stop)
        try:
            self._end_orphan()
            self._launch(with_archive(Java(class_path())))
            self._await_answer(timeout or self._start_timeout)
        except BaseException:
            self.stop()
            raise

    def wait(self) -> None:
        """Block as long as the broker runs; interrupted by Ctrl-C.

        Raises:
            BrokerDiedError: when the broker ends by itself.
        """
        if self._process is not None:
            self._process.wait()
            self._check_alive()

    def stop(self, timeout: float = 15.0) -> None:
        """End the broker and give the folder back; it is killed when ``timeout`` seconds did not do."""
        if self._process is not None:
            end(self._process, timeout)
            self._process = None
            self._folder.forget_broker()
            _log.info("kafka_stopped", data=str(self.data))
        if self._guard is not None:
            self._guard.dismiss()
            self._guard = None
        self._folder.release()
        atexit.unregister(self.stop)

    def kill(self) -> None:
        """End the broker as a power cut would (``kill -9``)."""
        if self._process is not None:
            self._process.kill()
        self.stop()

    def restart(self, timeout: float | None = None) -> None:
        """Stop and start again at the same address."""
        self.stop()
        self.start(timeout)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        starting = asyncio.ensure_future(asyncio.to_thread(self.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.wait([starting])
            await asyncio.to_thread(self.stop)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    def _end_orphan(self) -> None:
        orphan = self._folder.find_broker()
        if orphan is not None:
            _log.warning("kafka_orphan_ended", pid=orphan.pid, data=str(self.data))
            end(orphan, timeout=15.0)
        self._folder.forget_broker()

    def _launch(self, java: Java) -> None:
        self._identity = self._identify()
        self._folder.write_identity(self._identity)
        self._folder.rotate_log()
        if self._folder.is_unclean:
            self._fence(java, self._identity)
        self._write_properties(
            server_properties(
                self._folder.records,
                port=self._identity.port,
                controller_port=self._identity.controller_port,
            )
        )
        if not self._folder.is_formatted:
            format_records(self._folder, java, self._identity.cluster_id)
        self._guard = Guard()
        self._process = launch(self._folder, java)
        self._guard.watch(self._process.pid)
        self._folder.write_broker(self._process.pid)

    def _fence(self, java: Java, identity: BrokerIdentity) -> None:
        self._write_properties(
            controller_properties(self._folder.records, controller_port=identity.controller_port)
        )
        fence(self._folder, java)

    def _write_properties(self, text: str) -> None:
        self._folder.properties.write_text(text, encoding="utf-8")

    def _identify(self) -> BrokerIdentity:
        last = self._folder.read_identity()
        port = self._choose_port(last.port if last else None)
        if last and last.controller_port != port and is_free(last.controller_port):
            controller_port = last.controller_port
        else:
            controller_port = free_port(besides=port)
        cluster_id = last.cluster_id if last else _new_cluster_id()
        return BrokerIdentity(cluster_id, KAFKA_VERSION, port, controller_port)

    def _choose_port(self, last: int | None) -> int:
        promised = self._identity.port if self._identity else self._asked_port
        if promised is not None:
            if not is_free(promised):
                raise PortTakenError(promised)
            return promised
        wished = self._first_port if last is None else last
        if wished is not None and is_free(wished):
            return wished
        self._missed_port = wished
        return free_port()

    def _await_answer(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not answers(self._known.port):
            self._check_alive()
            if time.monotonic() > deadline:
                raise StartTimeoutError(timeout, self.log, self._folder.log_tail())
            time.sleep(_POLL_SECONDS)
        _log.info("kafka_started", bootstrap_servers=self.bootstrap_servers, data=str(self.data))

    def _check_alive(self) -> None:
        code = self._process.poll() if self._process else None
        if code is None:
            return
        tail = self._folder.log_tail()
        if "Address already in use" in tail:
            raise PortTakenError(self._known.port)
        raise BrokerDiedError("The broker", code, self.log, tail)


def _new_cluster_id() -> str:
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # Kafka's tools would take a leading dash for an option.
        if not text.startswith("-"):
            return text
