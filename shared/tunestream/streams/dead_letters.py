"""Dead letters: what a service refused, byte for byte, with the reason.

A dead letter has the original key, value and headers; the headers named here say why it was refused
and where it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from aiokafka import ConsumerRecord

from tunestream import __version__
from tunestream.domain.effects import Refused

__all__ = [
    "DLQ_MESSAGE",
    "DLQ_OFFSET",
    "DLQ_PARTITION",
    "DLQ_REASON",
    "DLQ_SERVICE",
    "DLQ_TOPIC",
    "DLQ_VERSION",
    "FINAL_REASONS",
    "dead_letter_headers",
    "is_final",
    "original_headers",
]

# As they may come: Kafka has headers without a value.
Headers = list[tuple[str, bytes | None]]

DLQ_REASON: Final = "ts_dlq_reason"
DLQ_MESSAGE: Final = "ts_dlq_message"
DLQ_TOPIC: Final = "ts_dlq_topic"
DLQ_PARTITION: Final = "ts_dlq_partition"
DLQ_OFFSET: Final = "ts_dlq_offset"
DLQ_SERVICE: Final = "ts_dlq_service"
DLQ_VERSION: Final = "ts_dlq_version"

# Families of reasons that no change on our side mends: the sender has to send something else.
FINAL_REASONS: Final = frozenset(
    {"undecodable", "schema", "non_finite", "wrong_key", "late", "turn_full", "contradiction"}
)


def is_final(code: str) -> bool:
    """Say whether replaying a dead letter with this reason code can never help."""
    return code.partition(".")[0] in FINAL_REASONS


def dead_letter_headers(record: ConsumerRecord, refused: Refused, service: str) -> Headers:
    """Return the original headers and the refusal's."""
    told = {
        DLQ_REASON: refused.code,
        DLQ_MESSAGE: refused.reason,
        DLQ_TOPIC: record.topic,
        DLQ_PARTITION: str(record.partition),
        DLQ_OFFSET: str(record.offset),
        DLQ_SERVICE: service,
        DLQ_VERSION: __version__,
    }
    return [
        *record.headers,
        *((name, value.encode("utf-8", "replace")) for name, value in told.items()),
    ]


def original_headers(headers: Iterable[tuple[str, bytes | None]]) -> Headers:
    """Return a dead letter's headers without the refusal's."""
    return [(name, value) for name, value in headers if not name.startswith("ts_dlq_")]
