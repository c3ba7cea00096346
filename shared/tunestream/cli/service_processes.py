"""The services as processes: their names, commands, ports, environment and logs."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tunestream.cli.child import ProcessSpec
from tunestream.cli.extras import check_extra
from tunestream.topics import SERVICES

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = [
    "REPLICA_TAKEN",
    "RunningService",
    "check_installed",
    "free_port",
    "package_of",
    "port_of",
    "service_of",
    "service_processes",
]

REPLICA_TAKEN: Final = 78
"""Exit code of a service whose replica number another process has; to start it again is no use."""
_FIRST_PORT: Final = 8101
_HOST: Final = "127.0.0.1"
# -P: modules in the folder where the command was called are the user's, also those that are named as ours.
_RUN: Final = (sys.executable, "-P", "-m", "tunestream", "service", "run")


@dataclass(frozen=True, slots=True)
class RunningService:
    """A service and where it listens.

    Attributes:
        process: to run it.
        url: of its HTTP side: ``/health/live``, ``/health/ready``, ``/metrics``.
    """

    process: ProcessSpec
    url: str


def service_of(name: str) -> str:
    """Return the service of a name with hyphens or underscores.

    Raises:
        LookupError: when there is none; the message names those that exist.
    """
    service = name.replace("_", "-")
    if service not in SERVICES:
        raise LookupError(f"no service {name}; there are {', '.join(SERVICES)}")
    return service


def package_of(service: str) -> str:
    """Return the name of a service's package in ``tunestream_services``."""
    return service.replace("-", "_")


def port_of(service: str) -> int:
    """Return the port at which ``tunestream up`` starts a service, unless it is taken."""
    return _FIRST_PORT + SERVICES.index(service)


def check_installed() -> None:
    """Check that the packages that services need are installed.

    Raises:
        Failure: when they are not.
    """
    check_extra("services", "faststream", "prometheus_client", "psutil", "uvicorn")


def service_processes(
    services: Sequence[str], kafka: KafkaSettings, *, artifacts: str, logs: Path, replica: str = "0"
) -> list[RunningService]:
    """Return the processes of services.

    Each has its own port, :func:`port_of` or any free one when that is taken.

    Args:
        services: of :data:`tunestream.topics.SERVICES`.
        kafka: the broker and the topics' prefix.
        artifacts: the artifact store.
        logs: folder of the log files.
        replica: the slot, stable over restarts.
    """
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "TUNESTREAM_KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
        "TUNESTREAM_ARTIFACTS": artifacts,
        "TUNESTREAM_REPLICA": replica,
    }
    running = []
    for service in services:
        name, port = package_of(service), free_port(port_of(service))
        url = f"http://{_HOST}:{port}"
        command = (*_RUN, service, "--host", _HOST, "--port", str(port))
        process = ProcessSpec(
            name,
            command,
            logs / f"{name}.log",
            environment,
            f"{url}/health/ready",
            f"{url}/health/live",
            (REPLICA_TAKEN,),
        )
        running.append(RunningService(process, url))
    return running


def free_port(wanted: int) -> int:
    """Return the port ``wanted``, or any free one when it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, wanted))
        except OSError:
            probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])
