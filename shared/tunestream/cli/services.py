"""The services as processes: their commands, ports, environment and logs."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tunestream.cli.errors import Failure
from tunestream.cli.supervisor import ProcessSpec
from tunestream.config.settings import KafkaSettings

__all__ = ["FIRST_PORT", "SERVICES", "RunningService", "free_port", "service_processes"]

SERVICES: Final = ("ttc_collector", "pair_builder", "curriculum_gate", "trainer")
FIRST_PORT: Final = 8101

_HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class RunningService:
    """A service and where it listens.

    Attributes:
        process: to run it.
        url: of its HTTP side: ``/health/live``, ``/health/ready``, ``/metrics``.
    """

    process: ProcessSpec
    url: str


def service_processes(
    names: Sequence[str], kafka: KafkaSettings, *, artifacts: str, logs: Path, replica: str = "0"
) -> list[RunningService]:
    """Return the processes of services.

    Each has its own port, counted from 8101 in the order of :data:`SERVICES`; one that is taken is
    replaced by any free one.

    Args:
        names: of :data:`SERVICES`.
        kafka: the broker and the topics' prefix.
        artifacts: the artifact store.
        logs: folder of the log files.
        replica: the slot, stable over restarts.

    Raises:
        Failure: when the packages that services need are not installed.
    """
    if find_spec("faststream") is None:
        raise Failure("the services' packages are not installed", remedy="pip install 'tunestream[services]'")
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "TUNESTREAM_KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
        "TUNESTREAM_ARTIFACTS": artifacts,
        "TUNESTREAM_REPLICA": replica,
    }
    services = []
    for name in names:
        port = free_port(FIRST_PORT + SERVICES.index(name))
        url = f"http://{_HOST}:{port}"
        command = (sys.executable, "-m", "faststream", "run", f"tunestream_services.{name}.app:app")
        process = ProcessSpec(
            name,
            (*command, "--host", _HOST, "--port", str(port)),
            logs / f"{name}.log",
            environment,
            f"{url}/health/ready",
        )
        services.append(RunningService(process, url))
    return services


def free_port(wanted: int) -> int:
    """Return the port ``wanted``, or any free one when it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, wanted))
        except OSError:
            probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])
