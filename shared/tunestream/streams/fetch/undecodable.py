"""What stands in a poll's records for bytes that are no record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiokafka import ConsumerRecord, TopicPartition

from tunestream.domain.effects import Refused

__all__ = ["Undecodable"]

_NO_TIME: Final = -1
_OF_CREATION: Final = 0


@dataclass
class Undecodable(ConsumerRecord):  # type: ignore[misc]
    """Stands in a poll's records for bytes that are no record; :func:`.decode` refuses it.

    ``offset`` is the last one that it stands for, so that the offset after it is the next one to read;
    ``value`` holds the raw bytes; it has no headers.

    Attributes:
        first_offset: the first offset that it stands for.
        refusal: why it cannot be read.
    """

    first_offset: int = 0
    refusal: Refused = Refused("undecodable.batch", "")  # noqa: RUF009 # never mutated

    @classmethod
    def of_record(cls, record: ConsumerRecord, raw: bytes, fault: str) -> Undecodable:
        """Return what stands for one record."""
        fields = vars(record) | {"value": raw, "serialized_value_size": len(raw), "headers": ()}
        message = f"{fault}; the record's bytes are the value of this dead letter"
        return cls(**fields, first_offset=record.offset, refusal=Refused("undecodable.header", message))

    @classmethod
    def of_batch(cls, place: TopicPartition, offsets: range, raw: bytes, fault: str) -> Undecodable:
        """Return what stands for ``offsets``, the unread ones of a damaged batch."""
        message = (
            f"the batch of offsets {offsets[0]} to {offsets[-1]} cannot be read: {fault}; its bytes are the "
            "value of this dead letter"
        )
        return cls(
            topic=place.topic,
            partition=place.partition,
            offset=offsets[-1],
            timestamp=_NO_TIME,
            timestamp_type=_OF_CREATION,
            key=None,
            value=raw,
            checksum=None,
            serialized_key_size=-1,
            serialized_value_size=len(raw),
            headers=(),
            first_offset=offsets[0],
            refusal=Refused("undecodable.batch", message),
        )
