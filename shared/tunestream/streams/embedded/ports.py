"""Ports of this machine: which are free, and whether a broker answers on one."""

from __future__ import annotations

import random
import socket
import struct
from typing import Final

__all__ = ["HOST", "answers", "free_port", "is_free"]

HOST: Final = "127.0.0.1"

# Below the ranges from which systems take ports for outgoing connections: a client that reconnects
# while the broker restarts must not be given the broker's own port.
_CANDIDATES: Final = range(20_000, 32_000)

_API_VERSIONS: Final = 18
_REQUEST: Final = struct.pack(">ihhih", 10, _API_VERSIONS, 0, 1, -1)


def is_free(port: int) -> bool:
    """Return whether a broker could listen on ``port`` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def free_port(*, besides: int | None = None) -> int:
    """Return a port that is free now, another one than ``besides``."""
    while True:
        port = random.choice(_CANDIDATES)  # noqa: S311 - any free one will do
        if port != besides and is_free(port):
            return port


def answers(port: int, *, timeout: float = 1.0) -> bool:
    """Return whether a Kafka broker answers a request for its API versions on ``port``."""
    try:
        with socket.create_connection((HOST, port), timeout=timeout) as connection:
            connection.sendall(_REQUEST)
            return bool(connection.recv(4))
    except OSError:
        return False
