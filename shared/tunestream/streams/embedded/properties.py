"""The configuration of the embedded broker: one KRaft node that is broker and controller."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tunestream.streams.embedded.ports import HOST

__all__ = ["controller_properties", "server_properties"]

# Above the largest topic of the catalogue, the dead letters of `trajectories` (16 MiB).
_MAX_MESSAGE_BYTES: Final = 20 << 20

_CONSTANT: Final = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "num.partitions": "4",
    "message.max.bytes": str(_MAX_MESSAGE_BYTES),
    "group.initial.rebalance.delay.ms": "0",
    # After a crash the broker is let in again only when its former session has run out.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
    # Few partitions of the internal topics: the broker starts and elects faster.
    "offsets.topic.num.partitions": "5",
    "transaction.state.log.num.partitions": "5",
    "share.coordinator.state.topic.num.partitions": "5",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "log.cleaner.enable": "true",
    "log.cleaner.backoff.ms": "5000",
    # 32 MiB: the default of 128 MiB would be a quarter of the heap.
    "log.cleaner.dedupe.buffer.size": str(32 << 20),
}


def server_properties(log_dir: Path, *, port: int, controller_port: int) -> str:
    """Return the text of ``server.properties``.

    Args:
        log_dir: where Kafka keeps its records.
        port: for clients, on 127.0.0.1.
        controller_port: for the broker itself, on 127.0.0.1.
    """
    clients = f"PLAINTEXT://{HOST}:{port}"
    listeners = {"listeners": f"{clients},{_controller(controller_port)}", "advertised.listeners": clients}
    return _text(_placed(log_dir, controller_port) | listeners)


def controller_properties(log_dir: Path, *, controller_port: int) -> str:
    """Return the text of ``server.properties`` for the controller alone, which soon gives the broker up.

    Args:
        log_dir: where Kafka keeps its records.
        controller_port: on 127.0.0.1.
    """
    alone = {
        "process.roles": "controller",
        "listeners": _controller(controller_port),
        "broker.heartbeat.interval.ms": "100",
        "broker.session.timeout.ms": "500",
        "metadata.max.idle.interval.ms": "100",
    }
    return _text(_placed(log_dir, controller_port) | alone)


def _placed(log_dir: Path, controller_port: int) -> dict[str, str]:
    voters = f"1@{HOST}:{controller_port}"
    return _CONSTANT | {"log.dirs": log_dir.as_posix(), "controller.quorum.voters": voters}


def _controller(port: int) -> str:
    return f"CONTROLLER://{HOST}:{port}"


def _text(properties: dict[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in properties.items())
