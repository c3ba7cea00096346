"""Which Kafka a broker is, as far as it shows that.

No request returns the version of a broker. ApiVersions returns the levels of ``metadata.version`` that it
supports, and the one that the cluster has settled on; each release has levels of its own. The answer is read
here, since the client's own request is too old to have it. A broker gives it before anybody logs in.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiokafka.conn import collect_hosts

from tunestream.streams.broker.options import ssl_context

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = ["BrokerVersion", "broker_version", "release_of"]

_ANSWER_SECONDS: Final = 5.0
_API_VERSIONS: Final = 18
_VERSION: Final = 3  # the first with features
_SOFTWARE: Final = (b"tunestream", b"1")
_SUPPORTED, _SETTLED = 0, 2  # tags of the answer
_METADATA: Final = "metadata.version"
# The first level of each release: org.apache.kafka.server.common.MetadataVersion.
_FIRST_LEVELS: Final = (
    (7, "3.3"),
    (8, "3.4"),
    (9, "3.5"),
    (12, "3.6"),
    (15, "3.7"),
    (20, "3.8"),
    (21, "3.9"),
    (22, "4.0"),
    (26, "4.1"),
    (28, "4.2"),
    (30, "4.3"),
)
_NEWEST_LEVEL: Final = 30


@dataclass(frozen=True, slots=True)
class BrokerVersion:
    """Which Kafka answers.

    Attributes:
        supported: the highest level of ``metadata.version`` that the broker knows; None where it gives none,
            as brokers before 3.3 and those with ZooKeeper do.
        settled: the level that the cluster works with.
    """

    supported: int | None
    settled: int | None

    def __str__(self) -> str:
        if self.supported is None:
            return "Kafka older than 3.3, or with ZooKeeper"
        release = f"Kafka {release_of(self.supported)}"
        if self.settled in {None, self.supported}:
            return f"{release} (metadata.version {self.supported})"
        return f"{release} (metadata.version {self.settled}, of {release_of(self.settled or 0)})"


def release_of(level: int) -> str:
    """Return the release that a level of ``metadata.version`` belongs to; newer ones are not known here."""
    if level > _NEWEST_LEVEL:
        return f"newer than {_FIRST_LEVELS[-1][1]}"
    return next((release for first, release in reversed(_FIRST_LEVELS) if level >= first), "older than 3.3")


async def broker_version(settings: KafkaSettings) -> BrokerVersion | None:
    """Return which Kafka the first server that answers is, None when none does."""
    tls = ssl_context(settings) if settings.security_protocol.endswith("SSL") else None
    for host, port, _ in collect_hosts(settings.bootstrap_servers, randomize=False):
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return _read(await _ask(host, port, tls))
        except (OSError, asyncio.IncompleteReadError):
            continue
    return None


async def _ask(host: str, port: int, tls: ssl.SSLContext | None) -> bytes:
    reader, writer = await asyncio.open_connection(host, port, ssl=tls)
    try:
        writer.write(_request())
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        return await reader.readexactly(size)
    finally:
        writer.close()


def _request() -> bytes:
    header = struct.pack(">hhih", _API_VERSIONS, _VERSION, 0, -1) + b"\0"
    body = b"".join(bytes([len(text) + 1]) + text for text in _SOFTWARE) + b"\0"
    return struct.pack(">i", len(header + body)) + header + body


def _read(answer: bytes) -> BrokerVersion:
    reader = _Fields(answer)
    reader.take(">i")  # which request it answers
    if reader.take(">h") != 0:  # a broker that does not know this version of the request
        return BrokerVersion(None, None)
    for _ in range(reader.number() - 1):
        reader.take(">hhh")
        reader.skip_tags()
    reader.take(">i")  # throttle
    levels: dict[int, int | None] = {}
    for _ in range(reader.number()):
        tag, size = reader.number(), reader.number()
        end = reader.at + size
        if tag in {_SUPPORTED, _SETTLED}:
            levels[tag] = dict(reader.features(tag)).get(_METADATA)
        reader.at = end
    return BrokerVersion(levels.get(_SUPPORTED), levels.get(_SETTLED))


class _Fields:
    """The fields of an answer, read one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, form: str) -> int:
        """Return the first of the numbers of a form of :mod:`struct`."""
        values = struct.unpack_from(form, self._data, self.at)
        self.at += struct.calcsize(form)
        return int(values[0])

    def number(self) -> int:
        """Return an unsigned number of variable length."""
        value = shift = 0
        while True:
            byte = self.take(">B")
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def text(self) -> str:
        """Return a compact string."""
        size = self.number() - 1
        self.at += size
        return self._data[self.at - size : self.at].decode()

    def skip_tags(self) -> None:
        """Pass over tagged fields."""
        for _ in range(self.number()):
            self.number()
            self.at += self.number()

    def features(self, tag: int) -> list[tuple[str, int]]:
        """Return features with their highest levels."""
        found = []
        for _ in range(self.number() - 1):
            name = self.text()
            first, second = self.take(">h"), self.take(">h")
            found.append((name, second if tag == _SUPPORTED else first))
            self.skip_tags()
        return found
