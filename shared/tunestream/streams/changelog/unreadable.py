"""Records of a changelog that others read and may write as well: which of them are no service's."""

from __future__ import annotations

from typing import Final

from aiokafka import ConsumerRecord

from tunestream.domain.effects import Refused
from tunestream.events.keys import decode_key
from tunestream.streams.tasks.decoding import decode
from tunestream.topics import topic

__all__ = ["unknown_type", "why_unreadable"]

_LONGEST: Final = 500


def unknown_type(name: str, record: ConsumerRecord) -> bytes | None:
    """Return the type of a record that a later release added to a topic of the wire.

    Args:
        name: catalogue name of the topic.
        record: of it.
    """
    types = topic(name).types
    found = dict(record.headers).get("ce_type")
    return found if types and found is not None and found.decode(errors="replace") not in types else None


def why_unreadable(name: str, record: ConsumerRecord) -> str | None:
    """Return why a record of a topic of the wire is none of a service, None when it can be read.

    Args:
        name: catalogue name of the topic.
        record: of it.
    """
    entry = topic(name)
    if not entry.types:
        return None
    try:
        decode_key(record.key or b"")
        decode(record, entry.bodies(), of_services=True)
    except (Refused, ValueError) as error:
        return str(error)[:_LONGEST]
    return None
