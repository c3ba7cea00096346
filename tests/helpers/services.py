"""Services as processes, and what tests do to them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tunestream.artifacts import ArtifactStore
from tunestream.config.settings import KafkaSettings
from tunestream.streams.embedded.ports import free_port

__all__ = ["Deployment", "ServiceProcess", "free_port"]

READY_DEADLINE = 180.0
STOP_DEADLINE = 60.0
_POLL = 0.05
_RUN = ("-P", "-m", "tunestream", "service", "run")


@dataclass(frozen=True)
class Deployment:
    """Services that run for several tests.

    Attributes:
        kafka: the broker and the topics' prefix.
        folder: holds the artifact store and the logs.
        services: the processes by name; who ends one starts it again.
    """

    kafka: KafkaSettings
    folder: Path
    services: Mapping[str, ServiceProcess]

    @property
    def store(self) -> ArtifactStore:
        """The artifact store of all services."""
        return ArtifactStore(str(self.folder / "artifacts"))


@dataclass
class ServiceProcess:
    """One replica of a service under `tunestream service run`."""

    name: str
    kafka: KafkaSettings
    folder: Path
    replica: str = "0"
    env: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = _RUN

    def __post_init__(self) -> None:
        self.port = free_port()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / f"{self.name}-{self.replica}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; the same replica may be started again after its end."""
        settings = {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "TUNESTREAM_KAFKA_TOPIC_PREFIX": self.kafka.topic_prefix,
            "TUNESTREAM_ARTIFACTS": str(self.folder / "artifacts"),
            "TUNESTREAM_REPLICA": self.replica,
            "PYTHONUNBUFFERED": "1",
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.command, self.name, "--host", "127.0.0.1", "--port", str(self.port)],
                env=os.environ | settings | dict(self.env),
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[2],
            )

    def client(self) -> httpx.AsyncClient:
        """Return a client of the service's HTTP side, which waits for an answer as long as it takes."""
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=READY_DEADLINE)

    async def ready(self) -> None:
        """Wait until the service says that it is ready."""
        answer: httpx.Response | None = None
        try:
            async with asyncio.timeout(READY_DEADLINE), self.client() as client:
                while True:
                    answer = await self._readiness(client)
                    assert self.process is not None
                    if (code := self.process.poll()) is not None:  # who answers now is another
                        raise AssertionError(
                            f"{self.name} ended with {code}:\n{self.log.read_text()[-4000:]}"
                        )
                    if answer is not None and answer.status_code == 200:
                        return
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            says = "does not answer" if answer is None else answer.text
            raise AssertionError(f"{self.name} {says}:\n{self.log.read_text()[-4000:]}") from None

    async def _readiness(self, client: httpx.AsyncClient) -> httpx.Response | None:
        try:
            return await client.get("/health/ready")
        except httpx.TransportError:
            return None

    async def metrics(self) -> str:
        """Return what the service tells Prometheus."""
        async with self.client() as client:
            return (await client.get("/metrics")).text

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End the process without a word (-9)."""
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(STOP_DEADLINE)

    def stop(self) -> None:
        """End the process in good order."""
        if self.process is None or self.process.poll() is not None:
            return
        self.signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    async def __aenter__(self) -> Self:
        self.start()
        await self.ready()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)
