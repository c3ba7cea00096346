"""Dead letters read back, and sent again once their cause is mended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from aiokafka import ConsumerRecord

from tunestream.config.settings import KafkaSettings
from tunestream.events.keys import decode_key
from tunestream.streams.dead_letters import (
    DLQ_MESSAGE,
    DLQ_OFFSET,
    DLQ_PARTITION,
    DLQ_REASON,
    DLQ_SERVICE,
    DLQ_VERSION,
    original_headers,
    why_final,
)
from tunestream.streams.publish import EncodedRecord
from tunestream.streams.reading import RecordReader
from tunestream.topics import CATALOGUE, topic

__all__ = ["SOURCES", "DeadLetter", "dead_letters", "replayed"]

SOURCES: Final = tuple(entry.source for entry in CATALOGUE if entry.source is not None)

_LOG_TIME: Final = "ce_tslogtime"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused record.

    Attributes:
        source: catalogue name of the topic it was refused from.
        partition: of the record, in its dead-letter topic.
        offset: of the record, in its dead-letter topic.
        code: the reason's stable name.
        message: the reason for people.
        service: that refused it, and ``version``, its version.
        source_partition: where the record was.
        source_offset: where the record was.
        time: when it was refused, milliseconds since the epoch.
        key: original.
        value: original.
        headers: original.
    """

    source: str
    partition: int
    offset: int
    code: str
    message: str
    service: str
    version: str
    source_partition: int
    source_offset: int
    time: int
    key: bytes | None = field(repr=False)
    value: bytes | None = field(repr=False)
    headers: tuple[tuple[str, bytes | None], ...] = field(repr=False)

    @property
    def name(self) -> str:
        """What to call it by: ``source/partition/offset``."""
        return f"{self.source}/{self.partition}/{self.offset}"

    @property
    def final(self) -> bool:
        """Whether sending it again can never help."""
        return why_final(self.code) is not None

    @property
    def run_id(self) -> str | None:
        """The run in its key, None when the key has none that can be read."""
        try:
            return decode_key(self.key)[0] if self.key else None
        except ValueError:
            return None

    @classmethod
    def of(cls, source: str, record: ConsumerRecord) -> Self:
        """Read a record of the dead-letter topic of ``source``."""
        headers: Mapping[str, str] = {
            name: value.decode(errors="replace")
            for name, value in record.headers
            if name.startswith("ts_dlq_")
        }
        return cls(
            source=source,
            partition=record.partition,
            offset=record.offset,
            code=headers[DLQ_REASON],
            message=headers[DLQ_MESSAGE],
            service=headers[DLQ_SERVICE],
            version=headers[DLQ_VERSION],
            source_partition=int(headers[DLQ_PARTITION]),
            source_offset=int(headers[DLQ_OFFSET]),
            time=record.timestamp,
            key=record.key,
            value=record.value,
            headers=tuple(original_headers(record.headers)),
        )


async def dead_letters(settings: KafkaSettings, source: str) -> AsyncIterator[DeadLetter]:
    """Yield what was refused from a topic, up to now.

    Args:
        settings: the broker.
        source: one of :data:`SOURCES`.
    """
    queue = next(entry.name for entry in CATALOGUE if entry.source == topic(source).name)
    async with RecordReader(settings, queue, from_beginning=True) as reader:
        async for record in reader.to_end():
            yield DeadLetter.of(source, record)


def replayed(letter: DeadLetter) -> EncodedRecord:
    """Return the record that sends a dead letter again, to where it was.

    The broker's time makes it as new as any other event. Its id stays, so that it counts once however often
    it is sent.

    Args:
        letter: one that is not final.
    """
    kept = [(name, value) for name, value in letter.headers if name != _LOG_TIME]
    return EncodedRecord(letter.source, letter.key, letter.value, kept, letter.source_partition)
