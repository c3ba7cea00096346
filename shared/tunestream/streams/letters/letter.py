"""One dead letter, by its headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from aiokafka import ConsumerRecord

from tunestream.events.keys import decode_key
from tunestream.streams.letters.dead_letters import (
    DLQ_MESSAGE,
    DLQ_OFFSET,
    DLQ_PARTITION,
    DLQ_REASON,
    DLQ_SERVICE,
    DLQ_SHA256,
    DLQ_VERSION,
    FOREIGN,
    why_final,
)
from tunestream.topics import CATALOGUE

__all__ = ["SOURCES", "DeadLetter"]

SOURCES: Final = tuple(entry.source for entry in CATALOGUE if entry.source is not None)
"""The topics that have dead letters, by catalogue name."""

_TEXTS: Final = (DLQ_REASON, DLQ_MESSAGE, DLQ_SERVICE, DLQ_VERSION)
_NOWHERE: Final = -1
_TOO_LARGE: Final = "only its beginning is kept, as it was too large: the agent has to send it again, smaller"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused record: why, by whom, and where it was; its bytes stay in the topic.

    Attributes:
        source: catalogue name of the topic it was refused from.
        partition: of the record, in its dead-letter topic.
        offset: of the record, in its dead-letter topic.
        time: when it was refused, milliseconds since the epoch.
        run_id: the run in its key, None when the key has none that can be read.
        code: the reason's stable name.
        message: the reason for people.
        service: that refused it.
        version: of that service.
        source_partition: where the record was.
        source_offset: where the record was.
        whole: whether all of the record's value is kept; it was too large otherwise.
    """

    source: str
    partition: int
    offset: int
    time: int
    run_id: str | None
    code: str
    message: str
    service: str
    version: str
    source_partition: int
    source_offset: int
    whole: bool = True

    @property
    def name(self) -> str:
        """What to call it by: ``source/partition/offset``."""
        return f"{self.source}/{self.partition}/{self.offset}"

    @property
    def final(self) -> bool:
        """Whether sending it again can never help."""
        return self.why_final is not None

    @property
    def why_final(self) -> str | None:
        """Why sending it again can never help, None when it can."""
        return why_final(self.code) if self.whole else _TOO_LARGE

    @classmethod
    def of(cls, source: str, record: ConsumerRecord) -> Self:
        """Read the headers of a record of the dead-letter topic of ``source``.

        One that no service wrote is shown as a letter of its own reason, which stops no reader of others.
        """
        headers = dict(record.headers)
        place = (source, record.partition, record.offset, record.timestamp, _run_of(record.key))
        try:
            code, message, service, version = (headers[name].decode() for name in _TEXTS)
            partition, offset = int(headers[DLQ_PARTITION]), int(headers[DLQ_OFFSET])
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            message = f"it has not the headers of a dead letter: {error!r}; `tunestream dlq purge` deletes it"
            return cls(*place, FOREIGN, message, "unknown", "unknown", record.partition, _NOWHERE)
        whole = DLQ_SHA256 not in headers
        return cls(*place, code, message, service, version, partition, offset, whole)


def _run_of(key: bytes | None) -> str | None:
    try:
        return decode_key(key)[0] if key else None
    except ValueError:
        return None
